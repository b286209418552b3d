package redis

import (
	"errors"
	"fmt"
	"math"
	"os"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// alone is a Store on a private Redis.
func alone(t *testing.T, args ...string) (*redistest.Instance, *env) {
	t.Helper()
	server := redistest.Start(t, args...)
	return server, newEnv(t, server.Client(), Options{})
}

func (e *env) config(name, value string) {
	e.t.Helper()
	if err := e.c.ConfigSet(e.ctx, name, value).Err(); err != nil {
		e.t.Fatal(err)
	}
}

// refusing are states in which Redis takes no writes.
var refusing = []struct {
	name string
	on   func(e *env)
	off  func(e *env)
}{
	{
		"readonly",
		func(e *env) { e.c.ReplicaOf(e.ctx, "127.0.0.1", "1") },
		func(e *env) { e.c.ReplicaOf(e.ctx, "no", "one") },
	},
	{
		"noreplicas",
		func(e *env) { e.config("min-replicas-to-write", "1") },
		func(e *env) { e.config("min-replicas-to-write", "0") },
	},
	{
		"misconf",
		func(e *env) {
			e.config("save", "3600 1")
			dir := e.c.ConfigGet(e.ctx, "dir").Val()["dir"]
			if err := os.Mkdir(dir+"/dump.rdb", 0o700); err != nil { // cannot be replaced by a file
				e.t.Fatal(err)
			}
			if err := e.c.BgSave(e.ctx).Err(); err != nil {
				e.t.Fatal(err)
			}
			wait.Until(e.t, "a failed background save", func() bool {
				return e.c.InfoMap(e.ctx, "persistence").Val()["Persistence"]["rdb_last_bgsave_status"] == "err"
			})
		},
		func(e *env) { e.config("stop-writes-on-bgsave-error", "no") },
	},
}

// A Redis that takes no writes decides nothing: every operation fails as
// transient, and done again later it does the whole of its work.
func TestNothingDecidedWhileRedisRefuses(t *testing.T) {
	for _, state := range refusing {
		t.Run(state.name, func(t *testing.T) {
			t.Parallel()
			_, e := alone(t)
			run, dead := e.run("w"), e.run("d")
			e.barrier("g", 1)
			e.push("r1", "r2", "r3", "r4")
			c := e.claim(run, 3)
			e.expire(dead)
			e.barrier("g", 1)
			state.on(e)
			ops := map[string]func() error{
				"register":  func() error { return e.Register(e.ctx, "x") },
				"renew":     func() error { return e.Renew(e.ctx, run) },
				"claim":     func() error { _, err := e.Claim(e.ctx, run, "n", 1); return err },
				"wait":      func() error { _, err := e.Wait(e.ctx, run, time.Second); return err },
				"report":    func() error { _, err := e.Report(e.ctx, run, []Report{done(c[0].Delivery, "t", "1")}); return err },
				"release":   func() error { _, err := e.Release(e.ctx, run, []Release{lost(c[1], false, 3)}); return err },
				"delay":     func() error { _, err := e.Delay(e.ctx, run, []Delay{{Delivery: c[2].Delivery}}); return err },
				"tick":      func() error { _, err := e.Tick(e.ctx, run, nil, ""); return err },
				"reap":      func() error { _, err := e.Reap(e.ctx, run, dead, 3); return err },
				"leave":     func() error { return e.Leave(e.ctx, run) },
				"reconcile": func() error { _, err := e.Reconcile(e.ctx, run, math.MaxInt64, nil); return err },
			}
			for name, op := range ops {
				err := op()
				if Classify(err) != ClassTransient || ClassName(err) != state.name {
					t.Errorf("%s: %v (class %d, name %q)", name, err, Classify(err), ClassName(err))
				}
			}
			state.off(e)
			same(t, "in flight", len(e.hash(e.keys.inflight(run))), 3)
			same(t, "queue", e.queue(), []string{"r4"})
			same(t, "counter", e.counter("g"), "")
			same(t, "report", e.report(run, done(c[0].Delivery, "t", "1")), []Verdict{Completed})
			same(t, "release", e.release(run, lost(c[1], false, 3)), []Released{{Losses: 1}})
			same(t, "leave", e.Leave(e.ctx, run), nil)
			same(t, "queue", e.queue(), []string{"r3", "r2", "r4"})
		})
	}
}

// With its memory full Redis still lets us drain: only BLMOVE is refused.
func TestMemoryFull(t *testing.T) {
	_, e := alone(t)
	run := e.run("w")
	e.barrier("g", 2)
	e.push("r1", "r2", "r3", "r4", "r5")
	c := e.claim(run, 4)
	e.config("maxmemory", "1")
	if err := e.c.Set(e.ctx, "x", "y", 0).Err(); ClassName(err) != "oom" {
		t.Fatalf("memory is not full: %v", err)
	}
	same(t, "report", e.report(run, done(c[0].Delivery, "a", "1"), Report{
		Delivery: c[1].Delivery, TaskID: "b", GroupID: "g", Dead: &DeadLetter{},
	}), []Verdict{Completed, Dead})
	same(t, "release", e.release(run, lost(c[2], false, 3)), []Released{{Losses: 1}})
	if _, err := e.Delay(e.ctx, run, []Delay{{Delivery: c[3].Delivery}}); err != nil {
		t.Error(err)
	}
	same(t, "tick", e.tick(run), TickResult{Promoted: 1})
	same(t, "claim", records(e.claim(run, 2)), []string{"r4", "r3"})
	same(t, "counter", e.counter("g"), "2")
	_, err := e.Wait(e.ctx, run, time.Second)
	if Classify(err) != ClassTransient || ClassName(err) != "oom" {
		t.Errorf("wait: %v", err)
	}
	// What an operator wants at this moment.
	for name, op := range map[string]func() error{
		"pause":   func() error { return e.Pause(e.ctx, run, "me") },
		"order":   func() error { return e.SendCommand(e.ctx, run, fleet.Command{Action: fleet.Drain}) },
		"unpause": func() error { return e.Unpause(e.ctx, run) },
		"requeue": func() error { _, err := e.Requeue(e.ctx, c[1].Delivery, true); return err },
	} {
		if err := op(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	same(t, "leave", e.Leave(e.ctx, run), nil)
}

func TestScriptFlush(t *testing.T) {
	_, e := alone(t)
	run := e.run("w")
	for i := range 3 {
		if err := e.c.ScriptFlush(e.ctx).Err(); err != nil {
			t.Fatal(err)
		}
		c := e.claimOne(run, fmt.Sprint("r", i))
		if err := e.c.ScriptFlush(e.ctx).Err(); err != nil {
			t.Fatal(err)
		}
		same(t, "report", e.report(run, Report{Delivery: c.Delivery}), []Verdict{CompletedNoGroup})
	}
}

// A Redis that lost its data has lost our membership with it.
func TestRestartWithoutPersistence(t *testing.T) {
	server, e := alone(t)
	run := e.run("w")
	c := e.claimOne(run, "r")
	server.Kill()
	if err := e.Renew(e.ctx, run); Classify(err) != ClassTransient {
		t.Errorf("Redis gone: %v", err)
	}
	server.Restart()
	if err := e.Renew(e.ctx, run); !errors.Is(err, ErrGone) {
		t.Errorf("renew: %v", err)
	}
	same(t, "report", e.report(run, Report{Delivery: c.Delivery}), []Verdict{Stale})
}

// With an append-only file a killed Redis comes back with everything in its
// place.
func TestRestartWithPersistence(t *testing.T) {
	server, e := alone(t, "--appendonly", "yes", "--appendfsync", "always")
	run := e.run("w")
	e.barrier("g", 1)
	e.push("a", "b")
	c := e.claim(run, 1)
	server.Kill()
	server.Restart()
	same(t, "renew", e.Renew(e.ctx, run), nil)
	same(t, "report", e.report(run, done(c[0].Delivery, "a", "1")), []Verdict{Completed})
	same(t, "claim", records(e.claim(run, 1)), []string{"b"})
}

func TestRefusedForGood(t *testing.T) {
	server, e := alone(t)
	if err := e.Register(e.ctx, "w"); err != nil {
		t.Fatal(err)
	}
	if err := e.c.Do(e.ctx, "acl", "setuser", "weak", "on", ">pw", "~*", "+@read", "+hello", "+eval", "+evalsha").Err(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		options ClientOptions
		protect bool
	}{
		{"wrongpass", ClientOptions{Username: "weak", Password: "no"}, false},
		{"noperm", ClientOptions{Username: "weak", Password: "pw"}, false},
		{"bad_db", ClientOptions{DB: 99}, false},
		{"noauth", ClientOptions{}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.protect {
				e.config("requirepass", "secret")
			}
			c.options.Host, c.options.Port = server.Host, server.Port
			client, err := NewClient(c.options)
			if err != nil {
				t.Fatal(err)
			}
			s, err := New(client, Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			err = s.Register(e.ctx, "w")
			if Classify(err) != ClassFatal || ClassName(err) != c.name {
				t.Errorf("%v: class %d, name %q", err, Classify(err), ClassName(err))
			}
			_, err = s.Wait(e.ctx, "w", time.Second)
			if Classify(err) != ClassFatal || ClassName(err) != c.name {
				t.Errorf("wait: %v: class %d, name %q", err, Classify(err), ClassName(err))
			}
		})
	}
}

// A client that was closed under us is our own doing.
func TestClosed(t *testing.T) {
	e := onRedis(t, Options{})
	client := goredis.NewClient(e.c.Options())
	s, err := New(client, Options{Prefix: e.o.Prefix})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Ping(e.ctx); Classify(err) != ClassCanceled {
		t.Errorf("ping: %v", err)
	}
}
