package redis

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// TestTickRenews: a tick renews the lease of the caller, because the membership
// decides, and publishes the description of the run.
func TestTickRenews(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.expire(run)
		if _, err := e.Tick(e.ctx, run, []byte(`{"id":"w"}`), "host:w"); err != nil {
			t.Fatal(err)
		}
		same(t, "lease", e.c.Exists(e.ctx, e.keys.alive(run)).Val(), 1)
		same(t, "info", e.c.Get(e.ctx, e.keys.own("info:"+run)).Val(), `{"id":"w"}`)
		same(t, "workers", e.c.SMembers(e.ctx, e.o.Prefix+":workers").Val(), []string{"host:w"})
		e.push("r")
		e.claim(run, 1)
		same(t, "in flight", e.tick(run).InFlight, 1)
	})
}

// TestTickDrainsInboxes: a BLMOVE of a run that has ended can arrive late; its record
// returns without an attempt used.
func TestTickDrainsInboxes(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		self, dead := e.run("self"), e.run("dead")
		e.die(self, dead, 3)
		e.push("a", "b", "c")
		for range 2 {
			e.moves(dead)
		}
		same(t, "tick", e.tick(self), TickResult{Drained: 2})
		claimed := e.claim(self, 9)
		same(t, "claimed", records(claimed), []string{"a", "b", "c"})
		same(t, "losses", claimed[0].Losses, 0)
		same(t, "keys of the gone run", e.keysUnder("*"+dead+"*"), []string{})
	})
}

// TestTickIsBounded: the work of one tick is bounded, continues at the next tick, and
// reaches every ended run.
func TestTickIsBounded(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		self, dead := e.run("self"), e.run("dead")
		e.die(self, dead, 3)
		want := numbered(chunkRecords + 10)
		for _, r := range want {
			e.c.RPush(e.ctx, e.keys.inbox(dead), r)
		}
		same(t, "first tick", e.tick(self), TickResult{Drained: chunkRecords})
		e.passes(time.Second)
		same(t, "second tick", e.tick(self), TickResult{Drained: 10})
		same(t, "order", e.queue(), want)
	})
}

func TestTickReachesAllGoneRuns(t *testing.T) {
	e := onMini(t, Options{})
	self := e.run("self")
	const total = 2*chunkIDs + 30
	for i := range total {
		run := fmt.Sprint("gone", i)
		e.c.ZAdd(e.ctx, e.keys.own("gone"), goredis.Z{Score: float64(time.Now().UnixMilli()), Member: run})
		e.c.RPush(e.ctx, e.keys.inbox(run), "r")
	}
	start := time.Unix(1732335600, 0)
	drained := 0
	for second := range 3 {
		e.mini.SetTime(start.Add(time.Duration(second) * time.Second))
		drained += e.tick(self).Drained
	}
	same(t, "drained", drained, total)
}

func TestTickForgets(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		self, dead, full := e.run("self"), e.run("dead"), e.run("full")
		e.push("a", "b")
		e.claim(dead, 1)
		e.die(self, dead, 3)
		e.claim(full, 1)
		e.expire(full)
		if _, err := e.retire(e.ctx, self, full, "dead"); err != nil {
			t.Fatal(err)
		}
		gone := func() []string { return e.c.ZRange(e.ctx, e.keys.own("gone"), 0, -1).Val() }
		e.later(59 * time.Minute)
		e.tick(self)
		same(t, "gone within the hour", len(gone()), 2)
		e.later(2 * time.Minute)
		e.tick(self)
		same(t, "gone after the hour: only one that is unfinished", gone(), []string{full})
		same(t, "attempts within the day", len(e.hash(e.keys.own("attempts"))), 1)
		e.later(24 * time.Hour)
		e.tick(self)
		same(t, "attempts after the day", e.keysUnder(":sidecar:attempts*"), []string{})
	})
}

func TestLeave(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run, other := e.run("w"), e.run("o")
		want := numbered(chunkRecords + 20)
		e.push(want...)
		e.claim(run, chunkRecords+10)
		if _, err := e.Wait(e.ctx, run, time.Second); err != nil {
			t.Fatal(err)
		}
		for range 2 { // a repeated call succeeds
			if err := e.Leave(e.ctx, run); err != nil {
				t.Fatal(err)
			}
		}
		same(t, "queue", e.queue(), want)
		same(t, "keys of the run", e.keysUnder("*"+run+"*"), []string{})
		same(t, "attempts", e.keysUnder(":sidecar:attempts*"), []string{})
		if _, err := e.Claim(e.ctx, run, "n", 1); !errors.Is(err, ErrGone) {
			t.Errorf("claim after leaving: %v", err)
		}
		same(t, "others", e.tick(other), TickResult{})
	})
}

// TestLeaveResumes: other runs finish the leave of a run that dies during it, still
// without attempts used.
func TestLeaveResumes(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run, other := e.run("w"), e.run("o")
		e.push("r")
		e.claim(run, 1)
		if _, err := e.retire(e.ctx, run, run, "clean"); err != nil {
			t.Fatal(err)
		}
		same(t, "tick", e.tick(other).Unfinished, []string{run})
		got, err := e.Reap(e.ctx, other, run, 1)
		same(t, "reaped", got, ReapResult{Returned: 1})
		same(t, "error", err, nil)
		same(t, "losses", e.claim(other, 1)[0].Losses, 0)
	})
}

// TestLeaveAfterDeath: a run that others have reaped has nothing to return, and does
// not change the attempts of records that are still to be returned.
func TestLeaveAfterDeath(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run, other := e.run("w"), e.run("o")
		e.push("r")
		e.claim(run, 1)
		e.expire(run)
		if _, err := e.retire(e.ctx, other, run, "dead"); err != nil {
			t.Fatal(err)
		}
		same(t, "leave", e.Leave(e.ctx, run), nil)
		same(t, "queue", e.queue(), []string{})
		got, err := e.Reap(e.ctx, other, run, 3)
		same(t, "reaped", got, ReapResult{Returned: 1})
		same(t, "error", err, nil)
		same(t, "losses", e.claim(other, 1)[0].Losses, 1)
	})
}

func TestReconcile(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		want := numbered(chunkRecords + 50)
		e.push(want...)
		claimed := e.claim(run, len(want))
		inFlight := []string{claimed[3].Delivery, claimed[100].Delivery, run + ".9999"}
		for _, wantReturned := range []int{len(want) - 2, 0} {
			n, err := e.Reconcile(e.ctx, run, math.MaxInt64, inFlight)
			if err != nil {
				t.Fatal(err)
			}
			same(t, "returned", n, wantReturned)
		}
		same(t, "in flight", len(e.hash(e.keys.inflight(run))), 2)
		left := slices.Delete(slices.Clone(want), 100, 101)
		left = slices.Delete(left, 3, 4)
		same(t, "queue", e.queue(), left)
		same(t, "losses", e.claim(run, 1)[0].Losses, 0)
		n, err := e.Reconcile(e.ctx, run, math.MaxInt64, nil)
		same(t, "holding nothing", n, 3)
		same(t, "error", err, nil)
	})
}
