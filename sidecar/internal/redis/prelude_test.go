package redis

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// Every operation of a run renews its lease, and none brings back a lease that has ended but
// a renewal.
func TestLeasesAreRenewed(t *testing.T) {
	k := newTicker(t)
	run := k.run("w")
	for i, does := range []func(){
		func() { k.claim(run, 1) },
		func() { k.release(run, Release{Delivery: run + ".9"}) },
		func() { k.tick(run) },
		func() {
			if err := k.Renew(k.ctx, run); err != nil {
				t.Error(err)
			}
		},
	} {
		k.ms.Add(5999)
		does()
		same(t, fmt.Sprint("operation ", i), k.c.PTTL(k.ctx, k.keys.alive(run)).Val(), 6*time.Second)
	}
	k.expire(run)
	k.claim(run, 1)
	same(t, "after a claim without a lease", k.c.Exists(k.ctx, k.keys.alive(run)).Val(), 0)
	if err := k.Renew(k.ctx, run); err != nil {
		t.Error(err)
	}
	same(t, "after a renewal without a lease", k.c.PTTL(k.ctx, k.keys.alive(run)).Val(), 6*time.Second)
}

// A renewal with a description stores it for the time of a lease, and enters the run into
// Graflow's list of workers until it ends.
func TestRenewals(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run, once := e.run("w"), e.run("once")
		workers := e.o.Prefix + ":workers"
		if err := e.Renew(e.ctx, run); err != nil {
			t.Fatal(err)
		}
		same(t, "without a description", e.c.Exists(e.ctx, workers, e.keys.own("info:"+run)).Val(), 0)
		for range 2 {
			if err := e.RenewAs(e.ctx, run, []byte("{}"), "host:w"); err != nil {
				t.Fatal(err)
			}
			same(t, "description", e.get(e.keys.own("info:"+run)), "{}")
			same(t, "workers", e.c.SMembers(e.ctx, workers).Val(), []string{"host:w"})
			if ttl := e.c.PTTL(e.ctx, e.keys.own("info:"+run)).Val(); ttl <= 5*time.Second || ttl > 6*time.Second {
				t.Errorf("for %v", ttl)
			}
		}
		if err := e.RenewAs(e.ctx, once, []byte("{}"), "host:once"); err != nil {
			t.Fatal(err)
		}
		for _, r := range []string{run, once} {
			if err := e.Leave(e.ctx, r); err != nil {
				t.Fatal(err)
			}
		}
		same(t, "workers after the end", e.c.Exists(e.ctx, workers).Val(), 0)
		if err := e.Renew(e.ctx, run); !errors.Is(err, ErrGone) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// The list of workers belongs to Graflow: a value of another type costs no lease.
func TestRenewalBesideAForeignListOfWorkers(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.set(e.o.Prefix+":workers", "x")
		if err := e.RenewAs(e.ctx, run, []byte("{}"), "host:w"); err != nil {
			t.Fatal(err)
		}
		if err := e.Leave(e.ctx, run); err != nil {
			t.Fatal(err)
		}
		same(t, "list", e.get(e.o.Prefix+":workers"), "x")
	})
}

// The steady time is Redis' clock and all its steps back. A script that finds a step stores
// it. Time that no tick has looked at counts up to two seconds.
func TestSteadyTime(t *testing.T) {
	const begin = tickerBegin
	for _, c := range []struct {
		name         string
		at, ahead    any
		want         int64 // the steady time at 5000 ms
		stored, step string
	}{
		{"nothing stored", nil, nil, begin + 5000, "", ""},
		{"a step before", begin + 4000, 70, begin + 5070, fmt.Sprint(begin + 4000), "70"},
		{"the same instant", begin + 5000, 70, begin + 5070, fmt.Sprint(begin + 5000), "70"},
		{"two seconds", begin + 3000, 70, begin + 5070, fmt.Sprint(begin + 3000), "70"},
		{"more than two seconds", begin + 2999, 70, begin + 5069, fmt.Sprint(begin + 2999), "70"},
		{"a step back", begin + 5001, 70, begin + 5071, fmt.Sprint(begin + 5000), "71"},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := newTicker(t)
			run := k.run("w")
			if c.at != nil {
				k.c.HSet(k.ctx, k.keys.own("clock"), "at", c.at, "ahead", c.ahead)
			}
			k.ms.Store(begin + 5000)
			d := k.claimOne(run, "r").Delivery
			if _, err := k.Delay(k.ctx, run, []Delay{{Delivery: d}}); err != nil {
				t.Fatal(err)
			}
			same(t, "steady time", int64(k.c.ZScore(k.ctx, k.keys.own("delayed"), d).Val()), c.want)
			clock := k.hash(k.keys.own("clock"))
			same(t, "clock", clock["at"], c.stored)
			same(t, "steps", clock["ahead"], c.step)
		})
	}
}

// A run ends once: it is entered into the gone list with the number of its deliveries. One
// that Redis has forgotten is entered as one that left, if it has records.
func TestEndOfARun(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		self, a, b := e.run("self"), e.run("a"), e.run("b")
		ended := func(run string) string {
			meta := e.hash(e.keys.own("meta:" + run))
			return fmt.Sprint(e.c.ZScore(e.ctx, e.keys.own("gone"), run).Val() > 0, " ", meta["ended"], " ", meta["held"])
		}
		end := func(run, mode string) {
			t.Helper()
			if _, err := e.retire(e.ctx, self, run, mode); err != nil {
				t.Fatal(err)
			}
		}
		e.push("1", "2", "3")
		e.claim(a, 2)
		e.expire(a)
		end(a, "dead")
		same(t, "a dead run", ended(a), "true dead 2")
		e.c.HDel(e.ctx, e.keys.inflight(a), a+".1")
		end(a, "dead")
		same(t, "once more", ended(a), "true dead 2")
		end(a, "clean")
		same(t, "a dead run that leaves", ended(a), "true dead 2")
		e.claim(b, 1)
		end(b, "clean")
		same(t, "a run that leaves", ended(b), "true clean 1")
		same(t, "members", e.c.SMembers(e.ctx, e.keys.own("runs")).Val(), []string{self})

		for run, records := range map[string]string{"f1": "inflight:f1", "f2": "inbox:f2", "f3": ""} {
			switch run {
			case "f1":
				e.c.HSet(e.ctx, e.keys.own(records), "f1.1", "r")
			case "f2":
				e.c.RPush(e.ctx, e.keys.own(records), "r")
			}
			end(run, "dead")
			same(t, "forgotten and called dead", ended(run), "false  ")
			end(run, "clean")
			want := "true clean 0"
			if run == "f1" {
				want = "true clean 1"
			} else if records == "" {
				want = "true  "
			}
			same(t, "forgotten "+run, ended(run), want)
		}
	})
}

// What belongs to a run ends with it.
func TestEndOfARunDeletesItsKeys(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		self, other := e.run("self"), e.run("other")
		for _, key := range []string{"alive:", "info:", "orders:"} {
			e.set(e.keys.own(key+other), "x")
		}
		e.c.HSet(e.ctx, e.keys.own("paused"), other, "{}", self, "{}")
		if _, err := e.retire(e.ctx, self, other, "clean"); err != nil {
			t.Fatal(err)
		}
		same(t, "keys", e.keysUnder("*"+other+"*"), []string{e.keys.own("meta:" + other)})
		same(t, "pauses", e.hash(e.keys.own("paused")), map[string]string{self: "{}"})
	})
}

// A user that may not read a key does not take it for one of another type, which would be
// deleted.
func TestForbiddenIsNotAnotherType(t *testing.T) {
	_, e := alone(t)
	self, other := e.run("self"), e.run("other")
	e.claimOne(other, "r")
	e.expire(other)
	if _, err := e.retire(e.ctx, self, other, "dead"); err != nil {
		t.Fatal(err)
	}
	before := e.hash(e.keys.own("meta:" + other))
	if err := e.c.ACLSetUser(e.ctx, "default", "-hlen").Err(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := e.reapChunk(e.ctx, self, other, 3); ClassName(err) != "noperm" {
		t.Errorf("%v (class %s)", err, ClassName(err))
	}
	same(t, "metadata", e.hash(e.keys.own("meta:"+other)), before)
}
