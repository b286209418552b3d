package redistest_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, redistest.LeakOptions()...)
}

// TestNewIsSharedAndAnswers tests the form that REDISTEST names; .ci/run runs both.
func TestNewIsSharedAndAnswers(t *testing.T) {
	a, b := redistest.New(t), redistest.New(t)
	if a.Addr != b.Addr {
		t.Fatalf("two servers: %s and %s", a.Addr, b.Addr)
	}
	if got, want := a.Addr, net.JoinHostPort(a.Host, strconv.Itoa(a.Port)); got != want {
		t.Errorf("Addr %s, parts say %s", got, want)
	}
	opts, err := redis.ParseURL(a.URL)
	if err != nil || opts.Addr != a.Addr {
		t.Errorf("URL %s parses to %v, %v", a.URL, opts, err)
	}
	if pong, err := a.Client().Ping(t.Context()).Result(); err != nil || pong != "PONG" {
		t.Errorf("PING: %q, %v", pong, err)
	}
}

func TestFormIsTheOneAskedFor(t *testing.T) {
	s := redistest.New(t)
	info, err := s.Client().InfoMap(t.Context(), "server").Result()
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(info["Server"]["process_id"])
	if err != nil {
		t.Fatal(err)
	}
	switch os.Getenv("REDISTEST") {
	case "container":
		if pid > 10 {
			t.Errorf("process id %d: not in a PID namespace of its own", pid)
		}
	case "process":
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
		if err != nil || !strings.Contains(string(stat), "PPid:\t"+strconv.Itoa(os.Getpid())) {
			t.Errorf("process %d is no child of this one: %v", pid, err)
		}
	}
}

func TestPrefixIsUniqueAndCleanedUp(t *testing.T) {
	s := redistest.New(t)
	c := s.Client()
	var prefix string
	t.Run("uses [it]*", func(t *testing.T) {
		prefix = redistest.Prefix(t)
		if other := redistest.Prefix(t); other == prefix {
			t.Errorf("two times %s", prefix)
		}
		if strings.ContainsAny(prefix, "*?[]{}\\ ") {
			t.Errorf("prefix %q has special characters", prefix)
		}
		pipe := c.Pipeline()
		for i := range 2500 {
			pipe.Set(t.Context(), prefix+":k"+strconv.Itoa(i), 1, 0)
		}
		if _, err := pipe.Exec(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	keys, err := c.Keys(t.Context(), prefix+"*").Result()
	if err != nil || len(keys) != 0 {
		t.Errorf("%d keys left, %v", len(keys), err)
	}
}

func TestInstanceFaults(t *testing.T) {
	i := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	c := i.Client()
	ctx := t.Context()
	if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}

	i.Freeze()
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	if err := c.Ping(short).Err(); err == nil {
		t.Error("a frozen Redis answered")
	}
	cancel()
	i.Thaw()
	if err := c.Ping(ctx).Err(); err != nil {
		t.Errorf("after Thaw: %v", err)
	}

	for _, fault := range []struct {
		name string
		do   func()
	}{{"Stop", i.Stop}, {"Kill", i.Kill}, {"Restart alone", func() {}}} {
		fault.do()
		if i.Pid() == 0 {
			if err := c.Ping(ctx).Err(); err == nil {
				t.Errorf("%s: it still answers", fault.name)
			}
		}
		addr := i.Addr
		i.Restart()
		if i.Addr != addr {
			t.Errorf("%s: address changed from %s to %s", fault.name, addr, i.Addr)
		}
		// The first command may use a connection to the old server.
		_ = c.Ping(ctx).Err()
		if v, err := c.Get(ctx, "k").Result(); err != nil || v != "v" {
			t.Errorf("%s: after Restart k=%q, %v", fault.name, v, err)
		}
	}

	i.Freeze()
	i.Stop() // must thaw the server, since a frozen one does not react to SIGTERM
	if i.Pid() != 0 {
		t.Error("still there after Stop")
	}
}

func TestInstanceSettings(t *testing.T) {
	primary := redistest.Start(t, "--requirepass", `p"s\w`, "--maxmemory", "64mb")
	c := redis.NewClient(&redis.Options{Addr: primary.Addr, Password: `p"s\w`})
	defer c.Close()
	got, err := c.ConfigGet(t.Context(), "maxmemory").Result()
	if err != nil || got["maxmemory"] != "67108864" {
		t.Errorf("maxmemory %v, %v", got, err)
	}

	open := redistest.Start(t)
	replica := redistest.Start(t, "--replicaof", "127.0.0.1 "+strconv.Itoa(open.Port))
	role, err := replica.Client().Do(t.Context(), "ROLE").Slice()
	if err != nil || role[0] != "slave" {
		t.Errorf("ROLE %v, %v", role, err)
	}

	sentinel := redistest.Start(t, "--sentinel", "--sentinel", "--sentinel monitor",
		"m 127.0.0.1 "+strconv.Itoa(open.Port)+" 1")
	addr, err := sentinel.Client().Do(t.Context(), "SENTINEL", "get-master-addr-by-name", "m").StringSlice()
	if err != nil || len(addr) != 2 || addr[1] != strconv.Itoa(open.Port) {
		t.Errorf("sentinel says %v, %v", addr, err)
	}
}

// TestServersDieWithTheTestProcess checks that a test process that is killed leaves no
// server behind. The test binary runs itself as that process.
func TestServersDieWithTheTestProcess(t *testing.T) {
	if os.Getenv("REDISTEST_CHILD") != "" {
		i := redistest.Start(t)
		println("addr " + redistest.New(t).Addr)
		println("addr " + i.Addr)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestServersDieWithTheTestProcess$")
	// The private folder outlives the killed process, so it is inside a folder that is
	// removed with this test.
	cmd.Env = append(os.Environ(), "REDISTEST_CHILD=1", "TMPDIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Fatalf("the child was to be killed: %s", out)
	}
	var addrs []string
	for line := range strings.Lines(string(out)) {
		if a, ok := strings.CutPrefix(strings.TrimSpace(line), "addr "); ok {
			addrs = append(addrs, a)
		}
	}
	if len(addrs) != 2 {
		t.Fatalf("the child said: %s", out)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	for _, addr := range addrs {
		for listens(addr) {
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("%s still listens", addr)
			}
		}
	}
}

func listens(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}
