package redisserver_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redisserver"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/graflow/graflow-sidecar/sidecar/internal/redisserver/serverproc.spawnLoop"))
}

func TestEachKind(t *testing.T) {
	for _, c := range []struct {
		name string
		opts redisserver.Options
		kind redisserver.Program
	}{
		{"process", redisserver.Options{}, redisserver.ProgramRedis},
		{"process with a password", redisserver.Options{Password: `p "\ä:@/`}, redisserver.ProgramRedis},
		{"in process", redisserver.Options{InProcess: true}, redisserver.ProgramMiniredis},
		{"in process with a password", redisserver.Options{InProcess: true, Password: "p:@/"}, redisserver.ProgramMiniredis},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("TMPDIR", t.TempDir())
			opts := c.opts
			opts.Port = redistest.FreePort(t)
			s, err := redisserver.Start(t.Context(), opts)
			if err != nil {
				t.Fatal(err)
			}
			// valkey-server is as good where it is what there is.
			if got := s.Program(); got != c.kind && got != redisserver.ProgramValkey {
				t.Errorf("kind %s, want %s", got, c.kind)
			}
			exercise(t, s, opts)
			stop(t, s)
			if err := s.Err(); err != nil {
				t.Errorf("Err after Stop: %v", err)
			}
			stop(t, s) // a second one does nothing
			if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
			if conn, err := net.Dial("tcp", s.Addr()); err == nil {
				_ = conn.Close()
				t.Error("it still listens after Stop")
			}
		})
	}
}

// exercise uses what the sidecar uses: a script, a time to live that runs out
// by itself, a blocking pop, and the password.
func exercise(t *testing.T, s *redisserver.Server, opts redisserver.Options) {
	t.Helper()
	parsed, err := redis.ParseURL(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	if parsed.Addr != s.Addr() || parsed.Password != opts.Password {
		t.Errorf("URL parses to %s and password %q", parsed.Addr, parsed.Password)
	}
	if host, _, _ := net.SplitHostPort(s.Addr()); host != "127.0.0.1" {
		t.Errorf("listens on %s", host)
	}
	c := redis.NewClient(parsed)
	defer c.Close()
	ctx := t.Context()
	if v, err := c.Eval(ctx, "redis.call('SET', KEYS[1], 'v', 'PX', 30) return cjson.encode({1})", []string{"k"}).Result(); err != nil || v != "[1]" {
		t.Errorf("EVAL: %v, %v", v, err)
	}
	// BLMOVE waits its whole second, by which time the key has expired.
	if err := c.BLMove(ctx, "none", "other", "LEFT", "RIGHT", time.Second).Err(); !errors.Is(err, redis.Nil) {
		t.Errorf("BLMOVE: %v", err)
	}
	if n, err := c.Exists(ctx, "k").Result(); err != nil || n != 0 {
		t.Errorf("the key did not expire: %d, %v", n, err)
	}
	if opts.Password != "" {
		stranger := redis.NewClient(&redis.Options{Addr: s.Addr(), MaxRetries: -1})
		defer stranger.Close()
		if err := stranger.Get(ctx, "k").Err(); err == nil || !strings.Contains(err.Error(), "NOAUTH") {
			t.Errorf("without the password: %v", err)
		}
	}
}

// A client that waits in BLMOVE does not hold up a stop.
func TestStopDoesNotWaitForBlockedClients(t *testing.T) {
	for _, inProcess := range []bool{false, true} {
		s, err := redisserver.Start(t.Context(), redisserver.Options{InProcess: inProcess})
		if err != nil {
			t.Fatal(err)
		}
		c := redis.NewClient(&redis.Options{Addr: s.Addr(), MaxRetries: -1})
		blocked := make(chan error, 1)
		go func() { blocked <- c.BLMove(context.Background(), "a", "b", "LEFT", "RIGHT", time.Minute).Err() }()
		waitForConnection(t, s)
		began, clock := time.Now(), machine.Watch(t)
		stop(t, s)
		if d := clock.Since(began); d > 5*time.Second {
			t.Errorf("in process %v: Stop took %v", inProcess, d)
		}
		if err := <-blocked; err == nil {
			t.Errorf("in process %v: BLMOVE succeeded", inProcess)
		}
		_ = c.Close()
	}
}

// waitForConnection returns once the server counts a client beside the one
// that asks.
func waitForConnection(t *testing.T, s *redisserver.Server) {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.Addr()})
	defer c.Close()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		info, err := c.Info(ctx, "clients").Result()
		if err == nil && strings.Contains(info, "connected_clients:2") {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the blocked client never came: %q, %v", info, err)
		}
	}
}

func TestUnexpectedDeath(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	s, err := redisserver.Start(t.Context(), redisserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	kill(t, s)
	select {
	case <-s.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("Done never closed")
	}
	if err := s.Err(); err == nil || !strings.Contains(err.Error(), "unexpectedly") {
		t.Errorf("Err: %v", err)
	}
	stop(t, s)
	if left, err := os.ReadDir(os.Getenv("TMPDIR")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestWithoutAServerOnPathItIsMiniredis(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	s, err := redisserver.Start(t.Context(), redisserver.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer stop(t, s)
	if s.Program() != redisserver.ProgramMiniredis {
		t.Errorf("kind %s", s.Program())
	}
}

func TestOutputGoesToTheLogAtDebug(t *testing.T) {
	var out testlog.Buffer
	log := slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s, err := redisserver.Start(t.Context(), redisserver.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	stop(t, s)
	if text := out.String(); !strings.Contains(text, `level=DEBUG msg="embedded redis output"`) || !strings.Contains(text, "Ready to accept") {
		t.Errorf("log: %s", text)
	}
}

func TestStartErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	busy := l.Addr().(*net.TCPAddr).Port
	for _, c := range []struct {
		name string
		opts redisserver.Options
		want string
	}{
		{"port taken", redisserver.Options{Port: busy}, "in use"},
		{"port taken, in process", redisserver.Options{Port: busy, InProcess: true}, "in use"},
		{"no port", redisserver.Options{Port: 70000}, "70000"},
		{"line break", redisserver.Options{Password: "a\nb"}, "line break"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := redisserver.Start(t.Context(), c.opts)
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "a\nb") {
				t.Errorf("error %v; want it to hold %q", err, c.want)
			}
		})
	}
}

func stop(t testing.TB, s *redisserver.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Errorf("Stop: %v", err)
	}
	select {
	case <-s.Done():
	default:
		t.Error("Stop returned before it was gone")
	}
}

func kill(t *testing.T, s *redisserver.Server) {
	t.Helper()
	c := redis.NewClient(&redis.Options{Addr: s.Addr()})
	defer c.Close()
	info, err := c.InfoMap(t.Context(), "server").Result()
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(atoi(t, info["Server"]["process_id"]), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

func atoi(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
