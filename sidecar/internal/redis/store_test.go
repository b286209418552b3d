package redis

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redismodel"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
)

func TestMain(m *testing.M) {
	SetLogger(nil)
	goleak.VerifyTestMain(m, redistest.LeakOptions()...)
}

// env is one test's Redis: a Store and a plain client beside it.
type env struct {
	*Store
	c    *goredis.Client
	mini *miniredis.Miniredis // nil on other kinds of Redis
	db   *redismodel.DB       // of the model
	t    testing.TB
	ctx  context.Context
}

// testTimeout bounds every test's talk with Redis.
const testTimeout = 60 * time.Second

func newEnv(t testing.TB, c *goredis.Client, o Options) *env {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	t.Cleanup(cancel)
	options := *c.Options() // the Store closes its client, so it gets its own
	options.MaxRetries, options.ReadTimeout = -1, testTimeout
	own := goredis.NewClient(&options)
	s, err := New(own, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return &env{Store: s, c: c, t: t, ctx: ctx}
}

// onRedis is a Store on the shared Redis under a prefix of its own.
func onRedis(t testing.TB, o Options) *env {
	t.Helper()
	if o.Prefix == "" {
		o.Prefix = redistest.Prefix(t)
	}
	return newEnv(t, redistest.New(t).Client(), o)
}

func onMini(t *testing.T, o Options) *env {
	t.Helper()
	m := miniredis.RunT(t)
	c := goredis.NewClient(&goredis.Options{Addr: m.Addr(), MaxRetries: -1})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	e := newEnv(t, c, o)
	e.mini = m
	return e
}

// onModel is a Store on the model of Redis that the suites of exploration and simulation
// use.
func onModel(t *testing.T, o Options) *env {
	t.Helper()
	return onModelAt(t, o, time.Now)
}

// onModelAt is onModel with a clock.
func onModelAt(t *testing.T, o Options, clock func() time.Time) *env {
	t.Helper()
	db := redismodel.New(clock)
	server := redismodel.NewServer(db)
	var conns sync.WaitGroup
	t.Cleanup(conns.Wait)
	t.Cleanup(server.CloseConns)
	c := goredis.NewClient(&goredis.Options{
		MaxRetries: -1,
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			conns.Go(func() { server.ServeConn(far) })
			return near, nil
		},
	})
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	e := newEnv(t, c, o)
	e.db = db
	return e
}

// refuse makes the model refuse a command for a key, or for all keys if it is "".
func (e *env) refuse(command, key string) {
	e.db.Refuse = func(args []string) string {
		if args[0] != command || key != "" && args[1] != key {
			return ""
		}
		return "NOPERM this user has no permissions to run the '" + command + "' command"
	}
}

// both runs a test on a real Redis, on miniredis, which `REDIS_URL=embedded` may mean,
// and on the model of Redis.
func both(t *testing.T, o Options, test func(t *testing.T, e *env)) {
	t.Helper()
	t.Run("redis", func(t *testing.T) { test(t, onRedis(t, o)) })
	t.Run("miniredis", func(t *testing.T) { test(t, onMini(t, o)) })
	t.Run("model", func(t *testing.T) { test(t, onModel(t, o)) })
}

// run registers a run.
func (e *env) run(name string) string {
	e.t.Helper()
	run := NewRunID(name)
	if err := e.Register(e.ctx, run); err != nil {
		e.t.Fatal(err)
	}
	return run
}

// push appends records as Graflow's enqueue does.
func (e *env) push(records ...string) {
	e.t.Helper()
	for _, r := range records {
		if err := e.c.RPush(e.ctx, e.keys.queue(), r).Err(); err != nil {
			e.t.Fatal(err)
		}
	}
}

func (e *env) claim(run string, max int) []Claimed {
	e.t.Helper()
	claimed, err := e.Claim(e.ctx, run, NewRunID("nonce"), max)
	if err != nil {
		e.t.Fatal(err)
	}
	return claimed
}

func (e *env) report(run string, batch ...Report) []Verdict {
	e.t.Helper()
	verdicts, err := e.Report(e.ctx, run, batch)
	if err != nil {
		e.t.Fatal(err)
	}
	return verdicts
}

func (e *env) release(run string, rel ...Release) []Released {
	e.t.Helper()
	released, err := e.Release(e.ctx, run, rel)
	if err != nil {
		e.t.Fatal(err)
	}
	return released
}

func (e *env) tick(run string) TickResult {
	e.t.Helper()
	r, err := e.Tick(e.ctx, run, nil, "")
	if err != nil {
		e.t.Fatal(err)
	}
	return r
}

// expire ends a run's lease as six seconds of silence would.
func (e *env) expire(run string) {
	e.t.Helper()
	if err := e.c.Del(e.ctx, e.keys.alive(run)).Err(); err != nil {
		e.t.Fatal(err)
	}
}

// die expires a run's lease and has self reap it.
func (e *env) die(self, run string, maxAttempts int) ReapResult {
	e.t.Helper()
	e.expire(run)
	r, err := e.Reap(e.ctx, self, run, maxAttempts)
	if err != nil {
		e.t.Fatal(err)
	}
	return r
}

// barrier does what Graflow's create_barrier does.
func (e *env) barrier(group string, expected int) {
	e.t.Helper()
	key := e.o.Prefix + ":barrier:" + group
	if err := e.c.Del(e.ctx, key).Err(); err != nil {
		e.t.Fatal(err)
	}
	e.set(key+":expected", fmt.Sprint(expected))
}

func (e *env) set(key, value string) {
	e.t.Helper()
	if err := e.c.Set(e.ctx, key, value, 0).Err(); err != nil {
		e.t.Fatal(err)
	}
}

// get is a string key's value, "" if there is none.
func (e *env) get(key string) string {
	e.t.Helper()
	value, err := e.c.Get(e.ctx, key).Result()
	if err != nil && !errors.Is(err, goredis.Nil) {
		e.t.Fatal(err)
	}
	return value
}

func (e *env) counter(group string) string { return e.get(e.o.Prefix + ":barrier:" + group) }

func (e *env) queue() []string {
	e.t.Helper()
	list, err := e.c.LRange(e.ctx, e.keys.queue(), 0, -1).Result()
	if err != nil {
		e.t.Fatal(err)
	}
	return list
}

func (e *env) hash(key string) map[string]string {
	e.t.Helper()
	m, err := e.c.HGetAll(e.ctx, key).Result()
	if err != nil {
		e.t.Fatal(err)
	}
	return m
}

func (e *env) keysUnder(pattern string) []string {
	e.t.Helper()
	found, err := e.c.Keys(e.ctx, e.o.Prefix+pattern).Result()
	if err != nil {
		e.t.Fatal(err)
	}
	slices.Sort(found)
	return found
}

func records(claimed []Claimed) []string {
	var all []string
	for _, c := range claimed {
		all = append(all, string(c.Record))
	}
	return all
}

func back(claimed ...Claimed) []Release {
	var all []Release
	for _, c := range claimed {
		all = append(all, Release{Delivery: c.Delivery, Seq: c.Seq})
	}
	return all
}

func same(t testing.TB, what string, got, want any) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("%s:\n got %.1000s\nwant %.1000s", what, g, w)
	}
}

//go:embed *.lua
var scripts embed.FS

// Every script says what it takes, answers and why, and leaves the first
// command to the prelude, which is a PEXPIRE, or to channel.lua.
func TestScriptsAreDocumented(t *testing.T) {
	files, err := scripts.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		source, err := scripts.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		wanted := []string{"-- " + f.Name() + " ", "\n-- KEYS", "\n-- ARGV", "\n-- Returns "}
		if f.Name() == "prelude.lua" {
			_, first, _ := strings.Cut(string(source), "redis.call(")
			if !strings.HasPrefix(first, "'PEXPIRE'") {
				t.Errorf("%s: the first command is not PEXPIRE", f.Name())
			}
		}
		for _, want := range wanted {
			if !strings.Contains(string(source), want) {
				t.Errorf("%s does not mention %q", f.Name(), want)
			}
		}
		if strings.Contains(string(source), "cjson") {
			t.Errorf("%s uses cjson, which fails on malformed records", f.Name())
		}
	}
}

func TestNewRunID(t *testing.T) {
	for _, worker := range []string{"", "worker_12", "a b:c.d{e}f\n", "тест", strings.Repeat("x", 500)} {
		id := NewRunID(worker)
		if strings.ContainsAny(id, "{}: .\n") || len(id) > maxWorkerID+33 || len(id) < 34 {
			t.Errorf("NewRunID(%q) = %q", worker, id)
		}
		if id == NewRunID(worker) {
			t.Errorf("NewRunID(%q) twice the same", worker)
		}
	}
}

func TestHashTag(t *testing.T) {
	for key, want := range map[string]string{
		"graflow": "", "{g}": "g", "a{b}c": "b", "{}x": "", "{}{x}": "", "}{": "", "{a": "", "x}{y}": "y", "{{a}": "{a",
	} {
		if got := hashTag(key); got != want {
			t.Errorf("hashTag(%q) = %q, want %q", key, got, want)
		}
	}
}
