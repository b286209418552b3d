package redis

import (
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// at sets the clock of miniredis.
func (e *env) at(t time.Time) { e.mini.SetTime(t) }

func TestADelayOutlastsNoStepOfTheClock(t *testing.T) {
	const hour = time.Hour
	for name, step := range map[string]time.Duration{"none": 0, "back": -7 * hour, "back a day": -30 * hour, "ahead": 7 * hour} {
		t.Run(name, func(t *testing.T) {
			e := onMini(t, Options{})
			begin := time.Now()
			e.at(begin)
			run := e.run("w")
			c := e.claimOne(run, "r")
			e.tick(run)
			if _, err := e.Delay(e.ctx, run, []Delay{{Delivery: c.Delivery, After: 3 * time.Second}}); err != nil {
				t.Fatal(err)
			}
			e.at(begin.Add(step + time.Second))
			same(t, "too early", e.tick(run), TickResult{})
			e.at(begin.Add(step + 5*time.Second))
			same(t, "due", e.tick(run), TickResult{Promoted: 1})
		})
	}
}

// What is put aside between the step and the next look is due in time, too. A step ahead
// once made it wait for as long as the step.
func TestADelayAfterAStep(t *testing.T) {
	for _, step := range []time.Duration{-time.Hour, time.Hour, 3 * time.Second} {
		t.Run(step.String(), func(t *testing.T) {
			e := onMini(t, Options{})
			begin := time.Now()
			e.at(begin)
			run := e.run("w")
			c := e.claimOne(run, "r")
			e.tick(run)
			e.at(begin.Add(step))
			if _, err := e.Delay(e.ctx, run, []Delay{{Delivery: c.Delivery, After: 3 * time.Second}}); err != nil {
				t.Fatal(err)
			}
			e.at(begin.Add(step + time.Second))
			if step < 0 {
				same(t, "too early", e.tick(run), TickResult{})
			} else {
				e.tick(run)
			}
			e.at(begin.Add(step + 6*time.Second))
			e.tick(run)
			same(t, "queue", e.queue(), []string{"r"})
		})
	}
}

// A record that becomes unrouted, or waits unrouted, between a step ahead and the next look
// is over in its time.
func TestUnroutedAfterAStepAhead(t *testing.T) {
	e := onMini(t, Options{})
	begin := time.Now()
	e.at(begin)
	run := e.run("ab")
	claim := func() []string {
		t.Helper()
		got, err := e.ClaimRouted(e.ctx, run, NewRunID("n"), KindDemand{abKinds, []int{1, 1}, 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		return claimedIDs(got.Claimed)
	}
	e.tick(run)
	e.push(job("x1"))
	same(t, "unrouted", claim(), []string(nil))
	e.at(begin.Add(time.Hour))
	e.push(job("x2"))
	same(t, "at the step", claim(), []string(nil))
	for s := time.Duration(1); s < 20; s++ {
		e.at(begin.Add(time.Hour + s*time.Second))
		e.tick(run)
		same(t, "too early", claim(), []string(nil))
	}
	e.at(begin.Add(time.Hour + 21*time.Second))
	e.tick(run)
	same(t, "over", claim(), []string{"x1:-2", "x2:-2"})
}

// A task is counted once, on whatever day the clock finds itself: a report after a step back,
// and one between a step ahead and the next look.
func TestATaskIsCountedOnceWhereTheClockSteps(t *testing.T) {
	for _, step := range []time.Duration{-72 * time.Hour, 72 * time.Hour} {
		t.Run(step.String(), func(t *testing.T) {
			e := onMini(t, Options{})
			begin := time.Now()
			e.at(begin)
			run := e.run("w")
			e.barrier("g", 2)
			first, second := e.claimOne(run, "r"), e.claimOne(run, "r")
			e.tick(run)
			report := func(c Claimed, want Verdict) {
				t.Helper()
				same(t, "verdict", e.report(run, done(c.Delivery, "a", "1")), []Verdict{want})
			}
			if step < 0 {
				report(first, Completed)
				e.at(begin.Add(step))
			} else {
				e.at(begin.Add(step))
				report(first, Completed)
				e.tick(run)
			}
			report(second, Duplicate)
			same(t, "counter", e.counter("g"), "1")
		})
	}
}

// A lease that was given before the clock stepped back lasts for as long as the step,
// as Redis has it.
func TestALeaseOutlastsNoStepOfTheClock(t *testing.T) {
	e := onRedis(t, Options{})
	self, dead := e.run("w"), e.run("d")
	e.tick(self)
	for _, left := range []time.Duration{7 * time.Hour, 0} { // or for ever
		if left == 0 {
			e.c.Persist(e.ctx, e.keys.alive(dead))
		} else {
			e.c.PExpire(e.ctx, e.keys.alive(dead), left)
		}
		e.passes(-7 * time.Hour)
		same(t, "tick", e.tick(self), TickResult{})
		if got := e.c.PTTL(e.ctx, e.keys.alive(dead)).Val(); got <= 0 || got > e.o.RunTTL {
			t.Errorf("the lease ends in %v", got)
		}
	}
}

// What is noted of the clock may have been written by anything: a value that is no
// time counts as not noted, and the looks of all sidecars go on.
func TestAClockThatIsNone(t *testing.T) {
	for _, noted := range [][]any{
		{"at", "1e400"},
		{"ahead", "-1e400"},
		{"ahead", "1e400"},
		{"at", "nan", "ahead", "nan"},
		{"at", "0x7fffffffffffffffff"},
		{"at", "", "ahead", "x"},
	} {
		e := onRedis(t, Options{})
		run := e.run("w")
		if err := e.c.HSet(e.ctx, e.keys.own("clock"), noted...).Err(); err != nil {
			t.Fatal(err)
		}
		c := e.claimOne(run, "r")
		if _, err := e.Delay(e.ctx, run, []Delay{{Delivery: c.Delivery, After: time.Millisecond}}); err != nil {
			t.Fatalf("%v: %v", noted, err)
		}
		wait.Until(t, "the delayed record is due", func() bool { return e.tick(run).Promoted == 1 })
	}
}
