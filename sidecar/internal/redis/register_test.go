package redis

import (
	"errors"
	"math"
	"testing"
	"time"
)

func TestRegisterAndRenew(t *testing.T) {
	both(t, Options{RunTTL: 5 * time.Second}, func(t *testing.T, e *env) {
		run := NewRunID("w")
		if err := e.Renew(e.ctx, run); !errors.Is(err, ErrGone) {
			t.Fatalf("renew before register: %v", err)
		}
		for range 2 { // a retry changes nothing
			if err := e.Register(e.ctx, run); err != nil {
				t.Fatal(err)
			}
		}
		ttl := func() time.Duration {
			t.Helper()
			d, err := e.c.PTTL(e.ctx, e.keys.alive(run)).Result()
			if err != nil {
				t.Fatal(err)
			}
			return d
		}
		if d := ttl(); d <= 0 || d > 5*time.Second {
			t.Errorf("lease %v", d)
		}
		e.expire(run)
		if err := e.Renew(e.ctx, run); err != nil {
			t.Fatalf("renew of a member whose lease ran out: %v", err)
		}
		if d := ttl(); d <= 0 {
			t.Errorf("lease after renewal %v", d)
		}
		if err := e.Leave(e.ctx, run); err != nil {
			t.Fatal(err)
		}
		if err := e.Renew(e.ctx, run); !errors.Is(err, ErrGone) {
			t.Errorf("renew after leaving: %v", err)
		}
		if d := ttl(); d > 0 {
			t.Errorf("a run that left has a lease of %v", d)
		}
	})
}

// A register that is repeated after an outage in which the run was reaped makes
// it a member again, and not one whose inbox others drain.
func TestRegisterAgainAfterReap(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		a, b := e.run("a"), e.run("b")
		e.die(a, b, 3)
		if err := e.Register(e.ctx, b); err != nil {
			t.Fatal(err)
		}
		if n := e.c.ZCard(e.ctx, e.keys.own("gone")).Val(); n != 0 {
			t.Errorf("%d gone runs, want none", n)
		}
		e.push("r")
		same(t, "claim", records(e.claim(b, 1)), []string{"r"})
	})
}

// Everything that needs membership refuses a run that is none, and changes
// nothing.
func TestGone(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		e.push("r")
		member := e.run("m")
		for name, op := range map[string]func() error{
			"claim":     func() error { _, err := e.Claim(e.ctx, "stranger", "n", 1); return err },
			"renew":     func() error { return e.Renew(e.ctx, "stranger") },
			"tick":      func() error { _, err := e.Tick(e.ctx, "stranger", nil, ""); return err },
			"reap":      func() error { _, err := e.Reap(e.ctx, "stranger", member, 3); return err },
			"reconcile": func() error { _, err := e.Reconcile(e.ctx, "stranger", math.MaxInt64, nil); return err },
		} {
			if err := op(); !errors.Is(err, ErrGone) || Classify(err) != ClassGone {
				t.Errorf("%s: %v", name, err)
			}
		}
		same(t, "queue", e.queue(), []string{"r"})
		if err := e.Leave(e.ctx, "stranger"); err != nil {
			t.Errorf("leave of a run that is none: %v", err)
		}
	})
}

// A run that registers ends its former ones at no cost.
func TestRegisterEndsFormerRuns(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		former := e.run("former")
		e.claimOne(former, "r")
		run := NewRunID("w")
		if err := e.Register(e.ctx, run, former, run); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Reap(e.ctx, run, former, 1); err != nil {
			t.Fatal(err)
		}
		same(t, "queue", e.queue(), []string{"r"})
		same(t, "attempts", e.keysUnder(":sidecar:attempts*"), []string{})
		same(t, "members", e.c.SMembers(e.ctx, e.keys.own("runs")).Val(), []string{run})
	})
}

// Only a member that lives is not ended, and a number of deliveries that is stored stays.
func TestRetire(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		self, other := e.run("self"), e.run("other")
		retire := func(victim string, want bool) {
			t.Helper()
			got, err := e.retire(e.ctx, self, victim, "dead")
			if err != nil {
				t.Fatal(err)
			}
			same(t, "ended", got, want)
		}
		retire(other, false)
		e.set(e.keys.alive("foreign"), "1")
		retire("foreign", true)
		e.c.HSet(e.ctx, e.keys.own("meta:"+other), "held", "5")
		e.expire(other)
		retire(other, true)
		same(t, "deliveries", e.hash(e.keys.own("meta:" + other))["held"], "5")
	})
}
