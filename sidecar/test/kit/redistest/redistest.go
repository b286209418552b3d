// Package redistest gives tests a real Redis.
//
// [New] returns the Redis that all tests of a process share: a container where
// containers work (testcontainers started one and it answered a PING), otherwise
// a redis-server or valkey-server from PATH. [Start] starts a private Redis that
// a test may stop, kill, freeze and restart. Both end with the test process,
// however it ends.
//
// Environment:
//
//	REDISTEST=container|process  use only that form, and fail if it does not work
//	REDISTEST_IMAGE              the container's image, default redis:7-alpine
//	REDISTEST_BINARY             the server program in place of one from PATH,
//	                             such as a valkey-server
package redistest

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redisserver/serverproc"
)

// startBound is the longest that the start of a server process may take, and
// containerBound that of a container, whose image may have to be pulled.
const (
	containerBound = 20 * time.Second
	startBound     = 10 * time.Second
)

// Server is where a Redis listens, as seen by one test.
type Server struct {
	// Addr is "host:port", Host and Port are its parts.
	Addr string
	Host string
	Port int
	// URL is "redis://host:port/0".
	URL string

	t testing.TB
}

func newServer(t testing.TB, addr string) (*Server, error) {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return nil, err
	}
	return &Server{Addr: addr, Host: host, Port: port, URL: "redis://" + addr + "/0", t: t}, nil
}

// shared is the Redis of this test process. The choice is made once.
var shared struct {
	once sync.Once
	addr string
	form string // "container" or "process"
	note string // why the container is not used, for the log
	err  error
}

// New returns the Redis that all tests of this process share. [Prefix] keeps the
// keys of tests apart; a test that changes the server's settings or flushes it
// uses [Start]. Where no Redis is found, the test fails with a line that says how
// to get one.
func New(t testing.TB) *Server {
	t.Helper()
	shared.once.Do(startShared)
	if shared.err != nil {
		t.Fatalf("no Redis for tests: %v", shared.err)
	}
	// Only -v and failing tests show this line.
	t.Logf("Redis: %s at %s%s", shared.form, shared.addr, shared.note)
	s, err := newServer(t, shared.addr)
	if err != nil {
		t.Fatalf("address of the shared Redis: %v", err)
	}
	return s
}

func startShared() {
	want := os.Getenv("REDISTEST")
	switch want {
	case "", "container", "process":
	default:
		shared.err = fmt.Errorf("REDISTEST=%q: only container and process are known", want)
		return
	}
	if want != "process" {
		ctx, cancel := context.WithTimeout(context.Background(), containerBound)
		defer cancel()
		addr, err := startContainer(ctx)
		if err == nil {
			shared.addr, shared.form = addr, "container"
			return
		}
		if want == "container" {
			shared.err = fmt.Errorf("REDISTEST=container: %w", err)
			return
		}
		shared.note = " (" + err.Error() + ")"
	}
	ctx, cancel := context.WithTimeout(context.Background(), startBound)
	defer cancel()
	shared.addr, shared.err = startProcess(ctx)
	shared.form = "process"
}

// startProcess starts the shared server in a folder that it removes again at once:
// the server persists nothing, and no code runs at the end of the test process that
// could remove the folder.
func startProcess(ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp("", "redistest-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	p, err := serverproc.Start(ctx, serverproc.Options{Binary: os.Getenv("REDISTEST_BINARY"), Dir: dir, Args: []string{"--stop-writes-on-bgsave-error", "no"}})
	if err != nil {
		return "", err
	}
	return p.Addr(), nil
}

// Client returns a new client that is closed when the test ends. It does not
// retry, negotiates nothing and obeys deadlines of contexts, so a test sees each
// error when it happens.
func (s *Server) Client() *redis.Client {
	s.t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr:                     s.Addr,
		MaxRetries:               -1,
		DialerRetries:            1,
		ContextTimeoutEnabled:    true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	s.t.Cleanup(func() {
		if err := c.Close(); err != nil {
			s.t.Errorf("close Redis client: %v", err)
		}
	})
	return c
}

// Prefix returns a key prefix that no other test, process or run uses. The keys
// with the prefix are removed from the shared Redis when the test ends. The prefix
// has no character that is special in a Redis pattern, and no hash tag.
func Prefix(t testing.TB) string {
	t.Helper()
	s := New(t)
	prefix := "t-" + safe(t.Name()) + "-" + strings.ToLower(rand.Text()[:10])
	t.Cleanup(func() {
		c := redis.NewClient(&redis.Options{Addr: s.Addr})
		defer c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), startBound)
		defer cancel()
		if err := removeKeys(ctx, c, prefix); err != nil {
			t.Errorf("remove the keys under %s: %v", prefix, err)
		}
	})
	return prefix
}

func removeKeys(ctx context.Context, c *redis.Client, prefix string) error {
	iter := c.Scan(ctx, 0, prefix+"*", 1000).Iterator()
	var keys []string
	for iter.Next(ctx) {
		keys = append(keys, iter.Val())
	}
	if err := iter.Err(); err != nil || len(keys) == 0 {
		return err
	}
	return c.Unlink(ctx, keys...).Err()
}

// safe returns at most 40 characters of a test's name, with "_" in place of
// characters other than letters and digits.
func safe(name string) string {
	clean := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		default:
			return '_'
		}
	}, name)
	return clean[:min(len(clean), 40)]
}

// LeakOptions returns options for goleak that ignore the goroutines of the shared
// Redis, which live as long as the test process.
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(m, redistest.LeakOptions()...) }
func LeakOptions() []goleak.Option {
	const proc = "github.com/graflow/graflow-sidecar/sidecar/internal/redisserver/serverproc."
	return []goleak.Option{
		goleak.IgnoreAnyFunction(proc + "spawnLoop"),
		goleak.IgnoreAnyFunction(proc + "(*Process).watch"),
		goleak.IgnoreAnyFunction(proc + "(*Process).readOutput"),
		// Idle connections of testcontainers to the Docker socket.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
	}
}
