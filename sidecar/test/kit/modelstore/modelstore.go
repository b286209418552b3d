// Package modelstore opens stores on a model of Redis, for tests of the stages in virtual
// time.
package modelstore

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/health"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/luascripts"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redismodel"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// Prefix is the key prefix of all stores.
const Prefix = "p"

// Redis is a model of Redis for one test, which runs in a bubble of testing/synctest. What it
// opens is closed at the end of the test.
type Redis struct {
	*redismodel.Server
	// Monitor is that of all links. It sends no pings before Probe.
	Monitor *health.Monitor
	Log     *testlog.Buffer

	t      *testing.T
	conns  sync.WaitGroup
	mu     sync.Mutex
	down   bool
	calls  map[string]int
	faults map[string]string
}

// New returns an empty Redis.
func New(t *testing.T) *Redis {
	t.Helper()
	quiet()
	db := redismodel.New(time.Now)
	r := &Redis{Server: redismodel.NewServer(db), Log: &testlog.Buffer{}, t: t, calls: make(map[string]int), faults: make(map[string]string)}
	scripts := scriptNames(t)
	db.Refuse = func(args []string) string {
		name := args[0]
		if name == "evalsha" && scripts[args[1]] != "" {
			name = scripts[args[1]]
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		r.calls[name]++
		return r.faults[name]
	}
	r.Monitor = link.NewMonitor(config.Default().Redis, r.Logger())
	t.Cleanup(func() {
		r.CloseConns()
		r.conns.Wait()
	})
	return r
}

// quiet turns the messages of go-redis off, which are global.
var quiet = sync.OnceFunc(func() { redis.SetLogger(nil) })

// scriptNames returns the name of each script by its SHA-1.
var scriptNames = func() func(t *testing.T) map[string]string {
	read := sync.OnceValues(func() (map[string]string, error) {
		files, err := luascripts.Files()
		if err != nil {
			return nil, err
		}
		sources, err := luascripts.Sources(files)
		names := make(map[string]string, len(sources))
		for name, source := range sources {
			names[redismodel.SHA1(source)] = name
		}
		return names, err
	})
	return func(t *testing.T) map[string]string {
		t.Helper()
		names, err := read()
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
}()

// Logger returns a logger that writes to Log.
func (r *Redis) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(r.Log, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Bounds of the dead letters of the stores.
const (
	DeadLetterMax    = 120
	DeadLetterMaxAge = 100 * time.Hour
)

// Store opens a store on a client of its own.
func (r *Redis) Store() *redis.Store {
	r.t.Helper()
	client, err := redis.NewClient(redis.ClientOptions{
		Host: "redis",
		Dial: func(context.Context, string, string) (net.Conn, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.down {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
			}
			near, far := net.Pipe()
			r.conns.Go(func() { r.ServeConn(far) })
			return near, nil
		},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := redis.New(client, redis.Options{Prefix: Prefix, StoreValues: true, DeadLetterMax: DeadLetterMax, DeadLetterMaxAge: DeadLetterMaxAge})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = s.Close() }) // a test may have closed it
	return s
}

// Link returns a link on the monitor. lease may be nil for the lease itself.
func (r *Redis) Link(lease link.Lease) *link.Link {
	return link.New(lease, r.Monitor, redis.RetryPause(config.Default().Redis), nil)
}

// End ends the server for clients: their connections are cut, and new ones are refused.
func (r *Redis) End() {
	r.mu.Lock()
	r.down = true
	r.mu.Unlock()
	r.CloseConns()
}

// Probe makes the monitor ping while Redis is away.
func (r *Redis) Probe() {
	r.Monitor.Ping = r.Store().Ping
	ctx, cancel := context.WithCancel(r.t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = r.Monitor.Run(ctx) }) // it returns nil
	r.t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}

// Fail makes a script, such as "claim", or a command of a client, such as "hmget", return an
// error, such as "OOM full"; "" ends that. Clients send the names of commands in lower case,
// and scripts in upper case.
func (r *Redis) Fail(name, reply string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.faults[name] = reply
}

// Calls returns how often a script or a command of a client was called so far, also with an
// error.
func (r *Redis) Calls(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls[name]
}
