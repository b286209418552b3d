package redis

import (
	"math"
	"testing"
)

// late returns a second Store on the same Redis. It counts turns from the beginning, so that
// its claims are like earlier claims that the network delivers only now.
func (e *env) late() *Store {
	e.t.Helper()
	s, err := New(e.c, e.o)
	if err != nil {
		e.t.Fatal(err)
	}
	return s
}

// TestALateClaimTakesNothing: a claim that arrives after its caller has given up would
// take records that no sidecar knows.
func TestALateClaimTakesNothing(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		same(t, "claimed from an empty queue", records(e.claim(run, 1)), []string{})
		same(t, "claimed again", records(e.claim(run, 1)), []string{})
		e.push("r")
		got, err := e.late().Claim(e.ctx, run, "late", 1)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "claimed late", records(got), []string{})
		same(t, "queue", e.queue(), []string{"r"})
		same(t, "claimed in its turn", records(e.claim(run, 1)), []string{"r"})
	})
}

// TestARepeatedClaimOfAnEmptyQueueTakesNothing: the call that was given up arrives after its
// repetition has found the queue empty. What it took was in flight until the next claim.
func TestARepeatedClaimOfAnEmptyQueueTakesNothing(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		same(t, "claimed from an empty queue", records(e.claim(run, 1)), []string{})
		e.push("r")
		got, err := e.late().Claim(e.ctx, run, "the first call of the same turn", 1)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "claimed late", records(got), []string{})
		same(t, "queue", e.queue(), []string{"r"})
		same(t, "claimed in its turn", records(e.claim(run, 1)), []string{"r"})
	})
}

// TestAClaimOfNothingLeavesTheLastOne: the claim that took records is answered again after one
// that found none.
func TestAClaimOfNothingLeavesTheLastOne(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.push("r")
		same(t, "claimed", records(e.claim(run, 1)), []string{"r"})
		same(t, "claimed from an empty queue", records(e.claim(run, 1)), []string{})
		got, err := e.late().Claim(e.ctx, run, "the first call again", 1)
		if err != nil {
			t.Fatal(err)
		}
		same(t, "claimed by the first call", records(got), []string{"r"})
	})
}

// TestReconcileLeavesWhatIsNotSeenYet: records of a claim whose reply is under way are
// not unknown, however late a comparison arrives. Records that the run has seen and no
// longer has in flight are.
func TestReconcileLeavesWhatIsNotSeenYet(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run, dead := e.run("w"), e.run("d")
		e.push("r1", "r2", "r3")
		e.claim(run, 2)
		e.claim(dead, 1)
		e.die(run, dead, 1) // r3 is adopted
		for _, c := range []struct {
			seen int64
			want int
		}{{0, 1}, {1, 1}, {1, 0}, {math.MaxInt64, 1}} {
			n, err := e.Reconcile(e.ctx, run, c.seen, nil)
			same(t, "error", err, nil)
			same(t, "returned", n, c.want)
		}
		same(t, "queue", e.queue(), []string{"r2", "r1", "r3"})
	})
}
