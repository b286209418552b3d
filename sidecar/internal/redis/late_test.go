package redis

import (
	"math"
	"testing"
)

// late is a second Store on the same Redis: it counts turns from the first one
// again, so that what it claims is what the first one claimed long ago and a
// network has delivered only now.
func (e *env) late() *Store {
	e.t.Helper()
	s, err := New(e.c, e.o)
	if err != nil {
		e.t.Fatal(err)
	}
	return s
}

// A claim that arrives when its caller has gone on would take records that no sidecar knows of.
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

// What a claim has taken whose reply is under way is not unknown, however late
// a comparison arrives. What was seen and is not held is.
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
