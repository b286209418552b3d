package redis

import (
	"fmt"
	"testing"
	"time"
)

// lost is a release after a death.
func lost(c Claimed, shared bool, max int) Release {
	return Release{Delivery: c.Delivery, Seq: c.Seq, Lost: true, Shared: shared, MaxAttempts: max, Record: c.Record}
}

// A death that several tasks shared never supplies the last attempt.
func TestReleaseLost(t *testing.T) {
	type step struct {
		shared    bool
		losses    int
		exhausted bool
	}
	for _, c := range []struct {
		name  string
		max   int
		steps []step
	}{
		{"alone", 3, []step{{false, 1, false}, {false, 2, false}, {false, 3, true}}},
		{"always shared", 3, []step{{true, 1, false}, {true, 2, false}, {true, 2, false}, {true, 2, false}}},
		{"shared, then alone", 3, []step{{true, 1, false}, {true, 2, false}, {true, 2, false}, {false, 3, true}}},
		{"one attempt, alone", 1, []step{{false, 1, true}}},
		{"two attempts, shared", 2, []step{{true, 1, false}, {true, 1, false}, {false, 2, true}}},
		{"one attempt, shared: nothing is short of it", 1, []step{{true, 1, true}}},
		{"no limit given is one", 0, []step{{false, 1, true}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			both(t, Options{}, func(t *testing.T, e *env) {
				run := e.run("w")
				e.push("r")
				losses := 0
				for i, s := range c.steps {
					claimed := e.claim(run, 1)
					if len(claimed) != 1 || claimed[0].Losses != losses || claimed[0].LostWithRun {
						t.Fatalf("step %d: claimed %+v, want %d losses", i, claimed, losses)
					}
					same(t, fmt.Sprint("step ", i), e.release(run, lost(claimed[0], s.shared, c.max)),
						[]Released{{Exhausted: s.exhausted, Losses: s.losses}})
					losses = s.losses
					if !s.exhausted {
						continue
					}
					same(t, "queue", e.queue(), []string{})
					same(t, "in flight", len(e.hash(e.keys.inflight(run))), 1)
					same(t, "a retry", e.release(run, lost(claimed[0], s.shared, c.max)),
						[]Released{{Exhausted: true, Losses: s.losses}})
				}
			})
		})
	}
}

// A death of more than a child (Whole) is shared, and what is at its last attempt
// after it has to be alone in the sidecar.
func TestReleaseLostWithTheWholeContainer(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.push("r")
		for i, want := range []int{1, 2, 2} {
			claimed := e.claim(run, 1)
			if len(claimed) != 1 || claimed[0].LostWithRun != (i > 0) {
				t.Fatalf("death %d: claimed %+v", i, claimed)
			}
			r := lost(claimed[0], false, 3)
			r.Whole = true
			same(t, fmt.Sprint("death ", i), e.release(run, r), []Released{{Losses: want}})
		}
		again := e.claim(run, 1)
		same(t, "a death of its own", e.release(run, lost(again[0], false, 3)), []Released{{Exhausted: true, Losses: 3}})
	})
}

// What a worker has not read before it died costs nothing, but not twice in a row.
func TestReleaseUnread(t *testing.T) {
	unread := func(c Claimed) Release { r := lost(c, false, 3); r.Lost, r.Unread = false, true; return r }
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		e.push("r")
		next := func(what string, losses int) Claimed {
			t.Helper()
			claimed := e.claim(run, 1)
			if len(claimed) != 1 || claimed[0].Losses != losses {
				t.Fatalf("%s: claimed %+v, want %d losses", what, claimed, losses)
			}
			if counted := what != "new"; claimed[0].Counted != counted { // or its report would leave the count there
				t.Errorf("%s: counted %t, want %t", what, claimed[0].Counted, counted)
			}
			return claimed[0]
		}
		same(t, "the first time", e.release(run, unread(next("new", 0))), []Released{{}})
		same(t, "twice in a row", e.release(run, unread(next("unread", 0))), []Released{{Counted: true, Losses: 1}})
		same(t, "after one that counted", e.release(run, unread(next("counted", 1))), []Released{{Losses: 1}})
		same(t, "a death in between", e.release(run, lost(next("unread", 1), true, 3)), []Released{{Losses: 2}})
		same(t, "a shared loss", e.release(run, lost(next("lost", 2), true, 3)), []Released{{Losses: 2}})
		same(t, "after that", e.release(run, unread(next("shared", 2))), []Released{{Losses: 2}})
		last := next("unread again", 2)
		for _, try := range []string{"the end", "a retry"} {
			same(t, try, e.release(run, unread(last)), []Released{{Exhausted: true, Losses: 3}})
		}
		same(t, "queue", e.queue(), []string{})
	})
}

func TestReleaseLateAndRetry(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run, other := e.run("w"), e.run("o")
		e.push("a", "b")
		claimed := e.claim(run, 2)
		first := lost(claimed[0], false, 3)
		same(t, "first", e.release(run, first), []Released{{Losses: 1}})
		same(t, "retry", e.release(run, first), []Released{{NotInFlight: true}})
		e.die(other, run, 3)
		same(t, "after the reaper", e.release(run, back(claimed[1])...), []Released{{NotInFlight: true}})
		same(t, "queue", e.queue(), []string{"b", "a"})
		if got, err := e.Release(e.ctx, run, nil); got != nil || err != nil {
			t.Errorf("nothing: %v, %v", got, err)
		}
	})
}

// The script hashes a record that the caller did not give, with the same
// result.
func TestReleaseWithoutRecord(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		for _, record := range poison {
			claimed := e.claimOne(run, record)
			r := lost(claimed, false, 3)
			r.Record = nil
			e.release(run, r)
			again := e.claim(run, 1)
			e.release(run, lost(again[0], false, 3))
			if got := e.claim(run, 1)[0]; got.Losses != 2 {
				t.Errorf("%q: %d losses, want 2", record, got.Losses)
			}
		}
	})
}

// What was handed back, what was delayed and what others pushed meanwhile lie
// in a sensible order: oldest sequence first, due records before the queue.
func TestReleaseOrder(t *testing.T) {
	for _, right := range []bool{false, true} {
		t.Run(fmt.Sprintf("right=%t", right), func(t *testing.T) {
			both(t, Options{QueueRight: right}, func(t *testing.T, e *env) {
				run := e.run("w")
				if right {
					e.push("f", "e", "d", "c", "b", "a")
				} else {
					e.push("a", "b", "c", "d", "e", "f")
				}
				c := e.claim(run, 5)
				if _, err := e.Delay(e.ctx, run, []Delay{
					{Delivery: c[3].Delivery, After: 0},
					{Delivery: c[1].Delivery, After: time.Hour},
				}); err != nil {
					t.Fatal(err)
				}
				e.release(run, back(c[2], c[0])...)
				e.release(run, back(c[4])...)
				same(t, "promoted", e.tick(run).Promoted, 1)
				same(t, "order", records(e.claim(run, 9)), []string{"d", "e", "a", "c", "f"})
			})
		})
	}
}

func TestReleaseWrongType(t *testing.T) {
	for _, key := range []string{"queue", "sidecar:attempts", "sidecar:attempts:at"} {
		t.Run(key, func(t *testing.T) {
			e := onRedis(t, Options{})
			run := e.run("w")
			first, second := e.claimOne(run, "r"), e.claimOne(run, "s")
			e.set(e.o.Prefix+":"+key, "x")
			_, err := e.Release(e.ctx, run, append(back(second), lost(first, false, 3)))
			if ClassName(err) != "wrongtype" {
				t.Errorf("error %v", err)
			}
			same(t, "in flight", len(e.hash(e.keys.inflight(run))), 2)
		})
	}
}

// A release without a loss counts nothing.
func TestReleaseCountsNothing(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		run := e.run("w")
		same(t, "released", e.release(run, back(e.claimOne(run, "r"))...), []Released{{}})
	})
}
