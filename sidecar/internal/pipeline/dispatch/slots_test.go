package dispatch_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

var (
	works = task.SlotState{}
	waits = task.SlotState{Waiting: true}
)

// wanted is what Want gives within a moment; 0 when it waits.
func wanted(t *testing.T, q *dispatch.Queue) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	n, err := q.Demand(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// took is what Take gives within a moment.
func took(t *testing.T, q *dispatch.Queue, limit int) []int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	ts, err := q.Acquire(ctx, limit)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	return seqs(ts)
}

// limited is a queue for some slots, with a child for each.
func limited(back *returns, slots, maxExtra int) *dispatch.Queue {
	q := dispatch.New(back.exits())
	q.Limit(slots, maxExtra)
	q.AddCapacity(slots)
	return q
}

func TestASlotWhoseTaskWaitsIsLent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := limited(&back, 1, 2)
		expect := func(what string, want int) {
			t.Helper()
			if n := wanted(t, q); n != want {
				t.Errorf("%s: wanted %d, want %d", what, n, want)
			}
		}
		q.Offer(tasks(0, 1))
		took(t, q, 1)
		expect("the slot is in use", 0)
		q.Update(works, waits)
		expect("no child is there for the lent slot", 0)
		q.AddCapacity(1)
		expect("lent", 1)
		q.Offer(tasks(1, 2))
		if got := took(t, q, 4); !slices.Equal(got, []int64{1}) {
			t.Errorf("took %v", got)
		}
		expect("both are in use", 0)
		q.Update(works, waits) // the second waits, too
		q.AddCapacity(1)
		expect("lent twice", 1)
		q.Offer(tasks(2, 3))
		took(t, q, 4)
		q.Update(works, waits)
		q.AddCapacity(1)
		expect("no more than two are lent", 0)
		if c := q.Counts(); c != (dispatch.Counts{Capacity: 4, Running: 3, Extra: 2}) {
			t.Errorf("%+v", c)
		}
		q.Release(waits)
		expect("of two that wait, both are lent", 1)
		q.Update(waits, works)
		q.Update(waits, works)
		expect("one last look for what is on its way", 1)
		expect("two work where there is one slot", 0)
		q.Release(works)
		expect("one works", 0)
		q.Release(works)
		expect("none works, and the other children do not count", 1)
	})
}

// TestAChildOfALentSlotTakesNothingWhenTheSlotIsTakenBack: it is a taker like
// any other, and a record in hand is no reason to run two.
func TestAChildOfALentSlotTakesNothingWhenTheSlotIsTakenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := limited(&back, 1, 1)
		q.Offer(tasks(0, 1))
		took(t, q, 1)
		q.Update(works, waits)
		q.AddCapacity(1)
		got := make(chan []task.Task, 1)
		go func() { ts, _ := q.Acquire(t.Context(), 1); got <- ts }()
		synctest.Wait()
		q.Update(waits, works)
		q.Offer(tasks(1, 2)) // a claim that was on its way
		synctest.Wait()
		if len(got) > 0 {
			t.Fatalf("started %v beside the only slot's task", seqs(<-got))
		}
		q.Release(works)
		if ts := <-got; !slices.Equal(seqs(ts), []int64{1}) {
			t.Errorf("took %v", seqs(ts))
		}
	})
}

// TestWhatCannotStartBesideAWaitingTaskGoesBack: it was claimed ahead of a slot
// that is not going to be free, and may be the very task that is waited for.
func TestWhatCannotStartBesideAWaitingTaskGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for maxExtra := range 2 {
			var back returns
			q := limited(&back, 1, maxExtra)
			for range 200 { // 10,000 a second, so that it would claim ahead
				q.Offer(tasks(0, 10))
				for range 10 {
					took(t, q, 1)
					q.Release(works)
				}
				time.Sleep(time.Millisecond)
			}
			q.Offer(tasks(0, 3))
			took(t, q, 1)
			q.Update(works, waits)
			if got := seqs(back.ts); !slices.Equal(got, []int64{2, 1}) {
				t.Errorf("gave back %v", got)
			}
			if n := wanted(t, q); n != 0 {
				t.Errorf("and wants %d again", n)
			}
		}
	})
}

func TestWhatCanStartBesideAWaitingTaskIsKept(t *testing.T) {
	var back returns
	q := limited(&back, 2, 1)
	q.AddCapacity(1)
	q.Offer(tasks(0, 4))
	took(t, q, 2)
	q.Update(works, waits) // a spare child is there
	if got := took(t, q, 4); len(back.ts) > 0 || !slices.Equal(got, []int64{2}) {
		t.Errorf("took %v, gave back %v", got, seqs(back.ts))
	}
}

// TestARecordThatWasOnItsWayToALentSlotGoesOn: a blocked wait moved it into this
// run's hands while the slot was taken back. It must not lie there until the
// resumed task ends.
func TestARecordThatWasOnItsWayToALentSlotGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := limited(&back, 1, 1)
		q.Offer(tasks(0, 1))
		took(t, q, 1)
		q.Update(works, waits)
		q.AddCapacity(1)
		if n := wanted(t, q); n != 1 {
			t.Fatalf("wanted %d", n)
		}
		q.Update(waits, works)
		lastLook(t, q, &back, 1)
	})
}

// TestAChildThatGoesTakesNothingFromTheOthers: the slot of its long task leaves with it.
func TestAChildThatGoesTakesNothingFromTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := limited(&back, 8, 0) // two children of four
		q.Offer(tasks(0, 3))
		took(t, q, 3)
		for range 3 { // the child that has them is told to finish
			q.Update(works, task.SlotState{OutsideCapacity: true})
		}
		q.AddCapacity(-4)
		if n := wanted(t, q); n != 4 {
			t.Errorf("wanted %d of the other child's 4", n)
		}
		q.AddCapacity(4) // its successor
		if n := wanted(t, q); n != 5 {
			t.Errorf("wanted %d, want 5: eight may run, and three do", n)
		}
		q.Release(task.SlotState{OutsideCapacity: true})
		if n := wanted(t, q); n != 6 {
			t.Errorf("wanted %d", n)
		}
	})
}

// TestALoneTaskThatWaitsIsNotAlone: what it waits for may have nowhere else to
// run. When it works again, nothing more is started.
func TestALoneTaskThatWaitsIsNotAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := limited(&back, 1, 4)
		lone := tasks(0, 1)
		lone[0].Isolation = task.IsolateRun
		q.Offer(lone)
		took(t, q, 1)
		if n := wanted(t, q); n != 0 {
			t.Fatalf("wanted %d beside it", n)
		}
		q.Update(task.SlotState{Isolated: true}, task.SlotState{Isolated: true, Waiting: true})
		q.AddCapacity(1)
		if n := wanted(t, q); n != 1 {
			t.Fatalf("wanted %d while it waits", n)
		}

		// A nested task may itself have to be alone: it starts when all others
		// only wait.
		nested := tasks(1, 2)
		nested[0].Isolation = task.IsolateRun
		q.Offer(nested)
		if got := took(t, q, 1); !slices.Equal(got, []int64{1}) {
			t.Fatalf("took %v", got)
		}
		q.AddCapacity(1)
		if n := wanted(t, q); n != 0 {
			t.Fatalf("wanted %d beside the nested one", n)
		}
		q.Release(task.SlotState{Isolated: true})
		if n := wanted(t, q); n != 1 {
			t.Fatalf("wanted %d when the nested one had ended", n)
		}

		q.Update(task.SlotState{Isolated: true, Waiting: true}, task.SlotState{Isolated: true})
		q.Offer(tasks(2, 4)) // what that claim brought
		if got := seqs(back.ts); !slices.Equal(got, []int64{3, 2}) {
			t.Errorf("gave back %v", got)
		}
		if n := wanted(t, q); n != 1 {
			t.Errorf("wanted %d, and not one last look", n)
		}
		if n := wanted(t, q); n != 0 {
			t.Errorf("wanted %d beside the lone one that works again", n)
		}
		q.Release(task.SlotState{Isolated: true})
		if n := wanted(t, q); n != 1 {
			t.Errorf("wanted %d after it", n)
		}
	})
}
