package redis

import (
	"errors"
	"fmt"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// suspect pushes a record that was lost with its sidecar at the attempt before its
// last, and claims it. used is what its attempts are, see attempts in prelude.lua.
func (e *env) suspect(run, record, used string) Claimed {
	e.t.Helper()
	if err := e.c.HSet(e.ctx, e.keys.own("attempts"), RecordSHA([]byte(record)), used).Err(); err != nil {
		e.t.Fatal(err)
	}
	c := e.claimOne(run, record)
	same(e.t, "it was lost with its sidecar", fmt.Sprint(c.Losses, c.LostWithRun), "2 true")
	return c
}

func (e *env) isolate(run string, c Claimed) {
	e.t.Helper()
	d := Delay{Delivery: c.Delivery, After: 10 * time.Second, Isolate: true, Record: c.Record}
	for _, want := range []bool{true, false} { // a retry changes nothing
		got, err := e.Delay(e.ctx, run, []Delay{d})
		if err != nil {
			e.t.Fatal(err)
		}
		same(e.t, "isolated", got, []bool{want})
	}
}

// takeIsolated takes one and claims as the claim stage does.
func (e *env) takeIsolated(run string) []Claimed {
	e.t.Helper()
	nonce := NewRunID("nonce")
	took, err := e.TakeIsolated(e.ctx, run, nonce, KindDemand{})
	if err != nil {
		e.t.Fatal(err)
	}
	got, err := e.Claim(e.ctx, run, nonce, 1)
	if err != nil {
		e.t.Fatal(err)
	}
	same(e.t, "took one", took, len(got) > 0)
	return got
}

// An idle sidecar takes an isolated record before its time, and it is at its last
// attempt alone there.
func TestTakeIsolated(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		busy, idle := e.run("busy"), e.run("idle")
		e.isolate(busy, e.suspect(busy, "r1", "2:run"))
		e.isolate(busy, e.suspect(busy, "r2", "2:run:4"))
		e.isolate(busy, e.suspect(busy, "r3", "2:run:5:u"))
		same(t, "isolated", e.tick(busy).Isolated, 3)
		same(t, "in flight", e.hash(e.keys.inflight(busy)), map[string]string{})
		for _, want := range []string{"r1", "r2", "r3"} { // the one that was due first
			got := e.takeIsolated(idle)
			same(t, "taken", records(got), []string{want})
			same(t, "as it was", fmt.Sprint(got[0].Losses, got[0].LostWithRun), "2 true")
		}
		same(t, "none is left", records(e.takeIsolated(idle)), []string{})
		same(t, "isolated", e.tick(busy).Isolated, 0)
		same(t, "all else is remembered", e.hash(e.keys.own("attempts")), map[string]string{
			RecordSHA([]byte("r1")): "2:run:0", RecordSHA([]byte("r2")): "2:run:4", RecordSHA([]byte("r3")): "2:run:5:u",
		})
		same(t, "keys left", e.keysUnder(":sidecar:delayed*"), []string{})
		same(t, "keys left", e.keysUnder(":sidecar:isolated*"), []string{})
		if _, err := e.TakeIsolated(e.ctx, "absent", "n", KindDemand{}); !errors.Is(err, ErrGone) {
			t.Errorf("for no member: %v", err)
		}
	})
}

// Where no sidecar is idle it comes back after its time, and runs beside others. The
// time doubles with each death that it shares there.
func TestIsolatedRecordsFallDue(t *testing.T) {
	for _, c := range []struct {
		deaths int
		after  time.Duration
	}{{0, 10 * time.Second}, {1, 20 * time.Second}, {5, 320 * time.Second}, {6, 10 * time.Minute}, {28, 10 * time.Minute}} {
		t.Run(fmt.Sprint(c.deaths, " deaths"), func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				run := e.run("w")
				e.isolate(run, e.suspect(run, "r", fmt.Sprint("2:run:", c.deaths)))
				e.later(c.after - 5*time.Second)
				same(t, "early", e.tick(run).Promoted, 0)
				e.later(5 * time.Second)
				got := e.tick(run)
				same(t, "due and no more isolated", fmt.Sprint(got.Promoted, got.Isolated), "1 0")
				beside := e.claim(run, 9)
				same(t, "claimed", records(beside), []string{"r"})
				same(t, "not to be alone any more", fmt.Sprint(beside[0].Losses, beside[0].LostWithRun), "2 false")
				same(t, "keys left", e.keysUnder(":sidecar:isolated*"), []string{})

				e.push("other")
				e.claim(run, 1)
				reaper := e.run("reaper")
				same(t, "of a shared death it is not the last attempt", len(e.die(reaper, run, 3).Exhausted), 0)
				same(t, "it is counted", e.hash(e.keys.own("attempts"))[RecordSHA([]byte("r"))], fmt.Sprint("2:run:", c.deaths+1))
			})
		})
	}
}

// A record whose attempts are forgotten meanwhile is like any other.
func TestIsolateWithoutAttempts(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.isolate(run, e.claimOne(run, "r"))
		got := e.tick(run)
		same(t, "back at once", fmt.Sprint(got.Promoted, got.Isolated), "1 0")
		same(t, "attempts", e.hash(e.keys.own("attempts")), map[string]string{})
	})
}

// The reply is lost and the call repeated, before the claim or after it, or it arrives
// when its caller has gone on: no second record lies in an inbox.
func TestTakeIsolatedAgainAndLate(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		busy, idle := e.run("busy"), e.run("idle")
		for i := range 3 {
			e.isolate(busy, e.suspect(busy, fmt.Sprint("r", i), "2:run"))
		}
		take := func(nonce string) (took bool) {
			t.Helper()
			took, err := e.TakeIsolated(e.ctx, idle, nonce, KindDemand{})
			if err != nil {
				t.Fatal(err)
			}
			return took
		}
		claim := func(nonce string, limit int) []string {
			t.Helper()
			got, err := e.Claim(e.ctx, idle, nonce, limit)
			if err != nil {
				t.Fatal(err)
			}
			return records(got)
		}
		same(t, "taken", take("n1"), true)
		same(t, "again", take("n1"), true)
		same(t, "inbox", e.list(e.keys.inbox(idle)), []string{"r0"})
		same(t, "claimed", claim("n1", 9), []string{"r0"})
		same(t, "again, after the claim", take("n1"), false)
		same(t, "the claim again", claim("n1", 9), []string{"r0"})
		same(t, "inbox", e.list(e.keys.inbox(idle)), []string{})

		same(t, "in the next turn", take("n2"), true)
		same(t, "claimed", claim("n2", 1), []string{"r1"})
		late, err := e.late().TakeIsolated(e.ctx, idle, "late", KindDemand{})
		same(t, "a late call", fmt.Sprint(late, err), "false <nil>")
		same(t, "inbox", e.list(e.keys.inbox(idle)), []string{})
		same(t, "isolated", e.tick(busy).Isolated, 1)

		// What a blocking wait has brought is claimed first.
		e.push("brought")
		if _, err := e.Wait(e.ctx, idle, 1); err != nil {
			t.Fatal(err)
		}
		same(t, "beside another record", take("n3"), true)
		same(t, "claimed", claim("n3", 1), []string{"brought"})
		same(t, "isolated", e.tick(busy).Isolated, 1)
	})
}

// A run with several kinds takes what one of them has a free slot for, and what
// has no kind that is known.
func TestTakeIsolatedByKinds(t *testing.T) {
	for _, c := range []struct {
		record string
		free   []int
		want   bool
	}{
		{job("a1"), []int{1, 0}, true},
		{job("a1"), []int{0, 1}, false},
		{job("b1"), []int{0, 1}, true},
		{job("b1"), []int{1, 0}, false},
		{job("x1"), []int{1, 1}, false},
		{"no job", []int{0, 1}, true},
	} {
		t.Run(fmt.Sprint(c.record, c.free), func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				busy, idle := e.run("busy"), e.run("idle")
				e.isolate(busy, e.suspect(busy, c.record, "2:run"))
				r := KindDemand{abKinds, c.free, keep}
				got, err := e.TakeIsolated(e.ctx, idle, "n", r)
				same(t, "taken", fmt.Sprint(got, err), fmt.Sprint(c.want, nil))
				claimed, err := e.ClaimRouted(e.ctx, idle, "n", r)
				if err != nil {
					t.Fatal(err)
				}
				same(t, "claimed", len(claimed.Claimed) == 1 && claimed.Claimed[0].LostWithRun, c.want)
			})
		})
	}
}

// An entry whose record is gone (an earlier version, which knows nothing of it, has
// handed it back) is dropped.
func TestTakeIsolatedDropsWhatIsGone(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.c.ZAdd(e.ctx, e.keys.own("isolated"), goredis.Z{Score: 1, Member: "gone.1"})
		e.isolate(run, e.suspect(run, "r", "2:run"))
		same(t, "taken", records(e.takeIsolated(run)), []string{"r"})
		same(t, "keys left", e.keysUnder(":sidecar:isolated*"), []string{})
	})
}

// No more bytes are looked at than a claim takes.
func TestTakeIsolatedBytes(t *testing.T) {
	both(t, Options{MaxClaimBytes: 100}, func(t *testing.T, e *env) {
		busy, idle := e.run("busy"), e.run("idle")
		for i := range 5 {
			e.isolate(busy, e.suspect(busy, job(fmt.Sprint("b", i)), "2:run"))
		}
		e.isolate(busy, e.suspect(busy, job("a"), "2:run"))
		got, err := e.TakeIsolated(e.ctx, idle, "n", KindDemand{Patterns: abKinds, Free: []int{1, 0}})
		same(t, "behind 100 bytes of others", fmt.Sprint(got, err), "false <nil>")
		got, err = e.TakeIsolated(e.ctx, idle, "n", KindDemand{Patterns: abKinds, Free: []int{0, 1}})
		same(t, "before them", fmt.Sprint(got, err), "true <nil>")
	})
}
