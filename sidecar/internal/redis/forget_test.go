package redis

import (
	"errors"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// flush deletes everything of the prefix, as FLUSHALL and an empty failover do.
func (e *env) flush() {
	e.t.Helper()
	for _, key := range e.keysUnder("*") {
		if err := e.c.Del(e.ctx, key).Err(); err != nil {
			e.t.Fatal(err)
		}
	}
}

// moves does what a Wait does that has begun when Redis knew the run.
func (e *env) moves(run string) {
	e.t.Helper()
	if err := e.c.LMove(e.ctx, e.keys.queue(), e.keys.inbox(run), "LEFT", "RIGHT").Err(); err != nil {
		e.t.Fatal(err)
	}
}

// brought is a run whose Wait has moved a record into its inbox after Redis had
// forgotten it.
func (e *env) brought(record string) (run string) {
	e.t.Helper()
	run = e.run("w")
	e.tick(run)
	e.flush()
	e.push(record)
	e.moves(run)
	if _, err := e.Claim(e.ctx, run, "n", 1); !errors.Is(err, ErrGone) {
		e.t.Fatalf("claim: %v", err)
	}
	return run
}

func TestAForgottenRunsInboxGoesBack(t *testing.T) {
	for name, end := range map[string]func(e *env, old string) (self string){
		"its sidecar registers anew": func(e *env, old string) string {
			self := NewRunID("w")
			for range 2 { // a reply may be lost
				same(e.t, "register", e.Register(e.ctx, self, old, self), nil)
			}
			same(e.t, "tick", e.tick(self), TickResult{Drained: 1})
			return self
		},
		"its sidecar stops": func(e *env, old string) string {
			same(e.t, "leave", e.Leave(e.ctx, old), nil)
			return e.run("x")
		},
		"its sidecar is killed": func(e *env, _ string) string {
			self := e.run("x")
			same(e.t, "tick", e.tick(self), TickResult{Drained: 1})
			return self
		},
	} {
		t.Run(name, func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				self := end(e, e.brought("r"))
				same(t, "claimed", records(e.claim(self, 9)), []string{"r"})
			})
		})
	}
}

// The set of the members is gone, and what they have claimed is not: it goes back at
// no cost.
func TestAForgottenRunsDeliveriesGoBackAtNoCost(t *testing.T) {
	for name, named := range map[string]bool{"by its own sidecar": true, "by another one": false} {
		t.Run(name, func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				old := e.run("w")
				e.push("a", "b", "c")
				e.claim(old, 2)
				e.c.Del(e.ctx, e.keys.own("runs"))
				self := NewRunID("w")
				var before []string
				if named {
					before = []string{old}
				}
				same(t, "register", e.Register(e.ctx, self, before...), nil)
				same(t, "tick", e.tick(self), TickResult{Unfinished: []string{old}})
				got, err := e.Reap(e.ctx, self, old, 3)
				same(t, "reap", []any{got, err}, []any{ReapResult{Returned: 2}, nil})
				same(t, "queue", e.queue(), []string{"a", "b", "c"})
				same(t, "attempts", len(e.hash(e.keys.own("attempts"))), 0)
			})
		})
	}
}

// A run that its sidecar has let go of is a member again when the database comes back.
func TestARunThatComesBackIsEnded(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		old, self := e.run("w"), NewRunID("w")
		e.claimOne(old, "r")
		same(t, "register", e.Register(e.ctx, self, old), nil)
		same(t, "renew", errors.Is(e.Renew(e.ctx, old), ErrGone), true)
		same(t, "tick", e.tick(self), TickResult{Unfinished: []string{old}})
	})
}

// Whole key spaces are not searched at once, nor all the time.
func TestTheSearchIsBounded(t *testing.T) {
	e := onRedis(t, Options{})
	self := e.run("w")
	e.tick(self)
	same(t, "rest after a search", e.hash(e.keys.own("watch"))["cursor"] != "", true)
	e.c.HSet(e.ctx, e.keys.own("watch"), "cursor", "0", "rest", 5)
	e.c.RPush(e.ctx, e.keys.inbox("nobody-1"), "r")
	for range 5 {
		e.passes(minGap)
		same(t, "not yet", e.tick(self).Drained, 0)
	}
	wait.Until(t, "the record is found", func() bool { e.passes(minGap); return e.tick(self).Drained == 1 })
}
