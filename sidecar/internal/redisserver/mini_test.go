package redisserver_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redisserver"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// serve starts the Redis that runs in this process, and logs to the buffer.
func serve(t testing.TB, log io.Writer) *redisserver.Server {
	t.Helper()
	s, err := redisserver.Start(t.Context(), redisserver.Options{InProcess: true, Log: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// say sends bytes, ends its side, and returns all that comes.
func say(t testing.TB, s *redisserver.Server, data []byte) string {
	t.Helper()
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatalf("it does not listen any more: %v", err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write(data) // it may hang up in the middle
	_ = conn.(*net.TCPConn).CloseWrite()
	reply, _ := io.ReadAll(conn) // what came before a reset counts
	return string(reply)
}

// answers reports whether it serves others.
func answers(t testing.TB, s *redisserver.Server) {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.Addr(), MaxRetries: -1, DialTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second})
	defer c.Close()
	if err := c.Set(t.Context(), "other", "v", 0).Err(); err != nil {
		t.Fatalf("it does not serve others any more: %v", err)
	}
}

// TestABadClientOfTheRedisInThisProcess: what it sends costs at most its connection.
// Each of these has ended the process, or taken all its memory.
func TestABadClientOfTheRedisInThisProcess(t *testing.T) {
	var log testlog.Buffer
	s := serve(t, &log)
	defer stop(t, s)
	const ping = "*1\r\n$4\r\nPING\r\n"
	command := func(args ...string) string {
		var text strings.Builder
		text.WriteString(fmt.Sprintf("*%d\r\n", len(args)))
		for _, a := range args {
			text.WriteString(fmt.Sprintf("$%d\r\n%s\r\n", len(a), a))
		}
		return text.String()
	}
	for _, c := range []struct {
		name, data string
		want       string // begins the reply
		warned     bool
	}{
		{"an empty request, which Redis skips", "*0\r\n" + ping, "+PONG", false},
		{"less than none", "*-1\r\n" + ping, "+PONG", false},
		{"a request without end", "*9999999999\r\n" + ping, "", false},
		{"an argument without end", "*1\r\n$9223372036854775807\r\n", "", false},
		{"a negative argument", "*1\r\n$-1\r\n" + ping, "", false},
		{"no array", "+PING\r\n", "", false},
		{"an empty line", "\r\n", "", false},
		{"a long line", "*" + strings.Repeat("1", 1<<20), "", false},
		{"another protocol", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "", false},
		{"a string of 4 GB", command("SETRANGE", "k", "4294967296", "x") + ping, "-ERR value is out of range", false},
		{"a string of 2^63 bytes", command("SETRANGE", "k", "9223372036854775807", "x"), "-ERR value is out of range", false},
		{"2^63 members", command("SADD", "s", "a") + command("SRANDMEMBER", "s", "-9223372036854775808"), ":1\r\n-ERR value is out of range", false},
		{"a command that panics", command("SSCAN", "s", "-2"), "-ERR miniredis", true},
		{"one in a script", command("EVAL", "return redis.call('SSCAN', 's', '-2')", "0") + ping, "-", false},
		{"one in a transaction", command("MULTI") + command("SSCAN", "s", "-2") + command("EXEC"), "+OK\r\n+QUEUED\r\n", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := strings.Count(log.String(), "panicked at a command")
			if got := say(t, s, []byte(c.data)); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
				t.Errorf("answered %.100q, want %q", got, c.want)
			}
			if warned := strings.Count(log.String(), "panicked at a command") > before; warned != c.warned {
				t.Errorf("warned: %t, want %t: %s", warned, c.warned, log.String())
			}
			answers(t, s)
		})
	}
}

// FuzzRequests sends anything and wants it to serve others afterwards.
func FuzzRequests(f *testing.F) {
	for _, seed := range []string{"*0\r\n", "*1\r\n$4\r\nPING\r\n", "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n*0\r\n", "*1\r\n$-1\r\n", "$4\r\nPING\r\n", "*1\n$4\nPING\n"} {
		f.Add([]byte(seed))
	}
	s := serve(f, io.Discard)
	f.Cleanup(func() { stop(f, s) })
	f.Fuzz(func(t *testing.T, data []byte) {
		if bytes.Contains(bytes.ToUpper(data), []byte("B")) {
			return // a blocking command, or a debugging one
		}
		say(t, s, data)
		answers(t, s)
	})
}

// A request that comes in pieces, and a value of several megabytes, arrive as they are.
func TestRequestsThatAreWellFormedPass(t *testing.T) {
	s := serve(t, io.Discard)
	defer stop(t, s)
	conn, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, piece := range strings.SplitAfter("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n*0\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n", "") {
		if _, err := io.WriteString(conn, piece); err != nil {
			t.Fatal(err)
		}
	}
	want := "+OK\r\n$4\r\n\r\n*0\r\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(bufio.NewReader(conn), got); err != nil || string(got) != want {
		t.Errorf("%q, %v", got, err)
	}
	c := redis.NewClient(&redis.Options{Addr: s.Addr()})
	defer c.Close()
	large := strings.Repeat("\r\n*0\r\n$-1\r\n", 1<<20)
	if err := c.Set(t.Context(), "large", large, 0).Err(); err != nil {
		t.Fatal(err)
	}
	if back, err := c.Get(t.Context(), "large").Result(); err != nil || back != large {
		t.Errorf("%d bytes came back, %v", len(back), err)
	}
	if err := c.Get(t.Context(), "none").Err(); !errors.Is(err, redis.Nil) {
		t.Error(err)
	}
}
