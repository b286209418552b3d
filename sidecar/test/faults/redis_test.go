//go:build faults

package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// crew starts n sidecars and waits until each has a worker that is up.
func (w *world) crew(n int, s setup) []*sidecar {
	w.t.Helper()
	all := make([]*sidecar, n)
	for i := range all {
		all[i] = w.start(s)
	}
	for _, sc := range all {
		sc.ready(1)
	}
	return all
}

// noRunGivenUp checks that an outage of Redis was not taken for the death of a sidecar: no
// lease was lost, no records were taken over and no attempt was counted.
func (w *world) noRunGivenUp() {
	w.t.Helper()
	for _, s := range w.sidecars {
		for line := range strings.Lines(s.text()) {
			if strings.Contains(line, "lease lost") || strings.Contains(line, "taking over the records") {
				w.violation("%s: %s", s.id, strings.TrimSpace(line))
			}
		}
	}
	ctx, cancel := bounded()
	defer cancel()
	if attempts, err := w.c.HGetAll(ctx, w.key("sidecar", "attempts")).Result(); err != nil || len(attempts) > 0 {
		w.violation("attempts were counted: %v %v", attempts, err)
	}
}

// goesOn measures how long an idle world takes to run a task, from the time at which its
// Redis is back, and checks the promised bound.
func (w *world) goesOn(back time.Time) {
	w.t.Helper()
	var first string
	for deadline := time.Now().Add(time.Minute); first == ""; {
		if time.Now().After(deadline) {
			w.t.Fatal("redis takes no record")
		}
		if g := w.group(record{}); g != "" {
			first = w.memberOf(g, "")
		}
	}
	w.settle(20 * time.Second)
	events, err := w.hist.Read()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, e := range history.Tell(events).Of(first).Starts {
		d := machine.Between(back, e.Time())
		w.outage = max(w.outage, d)
		if d > outageRecovery+w.delay {
			w.violation("the first task after the outage started %v after its end", d)
		}
	}
}

// busy pushes n tasks that are still running during the fault that follows, and short ones
// behind them.
func (w *world) busy(n int) {
	rs := w.work(3*n, 200)
	for i := range n {
		rs[i].Ms = 1000 + w.rnd.IntN(6000)
	}
	w.group(rs...)
	for range n {
		w.one(record{Ms: w.rnd.IntN(300)})
	}
}

// TestRedisAwayForLongerThanALease lets every lease run out while Redis is away. No sidecar
// may be taken for dead when Redis is back: the sidecar that reconnects first waits for the
// others.
func TestRedisAwayForLongerThanALease(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		gone, back func(w *world)
	}{
		{"restarted with AOF", func(w *world) { w.killRedis() }, func(w *world) { w.server.Restart() }},
		{"frozen", (*world).freezeRedis, func(w *world) { w.server.Thaw() }},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "--appendonly", "yes", "--appendfsync", "always")
			w.crew(8, setup{})
			for _, away := range []time.Duration{time.Second, 9 * time.Second} {
				w.busy(8)
				wait.Pass(200 * time.Millisecond)
				w.hurt(fmt.Sprint("Redis ", c.name, " for ", away))
				c.gone(w)
				wait.Pass(away)
				c.back(w)
				w.settle(40 * time.Second)
				w.hurt(fmt.Sprint("idle, Redis ", c.name, " for ", away))
				c.gone(w)
				wait.Pass(away)
				c.back(w)
				w.goesOn(time.Now())
			}
			w.noRunGivenUp()
			w.verify("Redis " + c.name + " after 1 s and 9 s")
		})
	}
}

// TestRedisRestartedAgainAndAgain kills Redis and restarts it shortly afterwards, several
// times, while tasks are pushed and run.
func TestRedisRestartedAgainAndAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "--appendonly", "yes", "--appendfsync", "always")
	w.crew(3, setup{})
	for range 6 {
		w.group(w.work(8, 150)...)
		w.one(record{Ms: 200})
		w.twice(record{})
		wait.Pass(time.Duration(w.rnd.IntN(300)) * time.Millisecond)
		w.hurt("Redis killed and restarted")
		w.killRedis()
		wait.Pass(time.Duration(w.rnd.IntN(800)) * time.Millisecond)
		w.server.Restart()
	}
	w.settle(30 * time.Second)
	w.noRunGivenUp()
	w.verify("Redis with AOF killed and restarted at once")
}

// TestRedisWithoutPersistence restarts a Redis that persists nothing. The records that it
// forgets are lost. The sidecars start over by themselves, and records that are pushed from
// then on end as they should.
func TestRedisWithoutPersistence(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.crew(3, setup{})
	for range 4 {
		w.group(w.work(8, 300)...)
		for range 6 {
			w.one(record{Ms: w.rnd.IntN(300)})
		}
		wait.Pass(time.Duration(w.rnd.IntN(300)) * time.Millisecond)
		w.hurt("Redis restarted empty")
		w.killRedis()
		wait.Pass(time.Duration(w.rnd.IntN(1500)) * time.Millisecond)
		w.server.Restart()
		w.forget()
		back := time.Now()
		w.group(w.work(8, 100)...) // before a sidecar has registered again
		w.goesOn(back)
	}
	w.verify("Redis restarted without persistence")
}

// forget removes the tasks and groups that Redis has forgotten from the checks.
func (w *world) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.tasks {
		p.Pushes, p.Unsure = 0, true
	}
	clear(w.groups)
}

func TestScriptFlush(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.crew(2, setup{})
	for range 30 {
		w.group(w.work(3, 40)...)
		w.hurt("SCRIPT FLUSH")
		ctx, cancel := bounded()
		if err := w.c.ScriptFlush(ctx).Err(); err != nil {
			t.Error(err)
		}
		cancel()
		wait.Pass(time.Duration(w.rnd.IntN(80)) * time.Millisecond)
	}
	w.goesOn(time.Now())
	if w.outage > time.Second {
		w.violation("the first task after a flush started %v later", w.outage)
	}
	w.noRunGivenUp()
	w.verify("Redis SCRIPT FLUSH")
}

// TestMemoryFull fills Redis up to maxmemory under the policy noeviction: Redis refuses the
// producers, and sidecars drain the records that were pushed before, also sidecars that
// start only then. The commands of an operator work.
func TestMemoryFull(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "--maxmemory-policy", "allkeys-lru")
	w.crew(1, setup{})
	warned := func() int {
		return strings.Count(w.sidecars[0].text(), `"redis may evict keys`)
	}
	wait.Within(t, 20*time.Second, "a warning of the eviction policy", func() bool { return warned() == 1 })
	w.configure("maxmemory-policy", "noeviction")
	w.crew(1, setup{})
	for turn := range 4 {
		rs := w.work(20, 150)
		rs[0].Kill, rs[1].Do, rs[2].Do = "self-start", "fail", "retry"
		w.group(rs...)
		w.twice(record{})
		for range 5 {
			w.one(record{Ms: w.rnd.IntN(100)})
		}
		w.hurt("maxmemory reached")
		w.configure("maxmemory", "1")
		if w.push(w.fill(record{})) {
			t.Error("a push was accepted: memory is not full")
		}
		if turn == 0 {
			w.pausedWhileFull()
		}
		fresh := w.start(setup{})
		fresh.ready(1)
		w.settle(20 * time.Second)
		if turn == 0 {
			w.drainBy(w.server.Addr, fresh)
		} else {
			fresh.stop()
		}
		w.configure("maxmemory", "0")
	}
	w.noRunTakenForDead()
	w.verify("Redis with maxmemory reached")
}

// pausedWhileFull has an operator pause all sidecars and resume them while the memory of
// Redis is full, and checks that a paused sidecar claims nothing.
func (w *world) pausedWhileFull() {
	w.t.Helper()
	for range 8 {
		w.configure("maxmemory", "0")
		w.one(record{Ms: 1500})
		w.configure("maxmemory", "1")
	}
	w.command(w.server.Addr, "", "pause", "--all")
	for _, s := range w.alive() {
		wait.Within(w.t, 20*time.Second, s.id+" is paused", func() bool { return s.says(`"paused: no new tasks until sidecar resume"`) })
	}
	from := time.Now()
	wait.Pass(time.Second)
	w.claimedNothing(from, w.alive()...)
	w.command(w.server.Addr, "", "resume", "--all")
}

func (w *world) configure(name, value string) {
	w.t.Helper()
	ctx, cancel := bounded()
	defer cancel()
	if err := w.c.ConfigSet(ctx, name, value).Err(); err != nil {
		w.t.Error(err)
	}
}

// noRunTakenForDead checks that no sidecar was taken for dead.
func (w *world) noRunTakenForDead() {
	for _, s := range w.sidecars {
		if s.says("lease lost") {
			w.violation("%s was given up for dead", s.id)
		}
	}
}
