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

// demand returns the result of Demand if it comes within a moment; 0 if it waits.
func demand(t *testing.T, q *dispatch.Queue) int {
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

// acquirer is a queue, or one of its lanes.
type acquirer interface {
	Acquire(ctx context.Context, limit int) ([]task.Task, error)
}

// took returns the tasks that Acquire returns within a moment.
func took(t *testing.T, q acquirer, limit int) []int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	ts, err := q.Acquire(ctx, limit)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	return seqs(ts)
}

// limited returns a queue with a limit of slots and a child for each slot.
func limited(back *returns, slots, maxExtra int) *dispatch.Queue {
	q := dispatch.New(back.exits())
	q.Limit(slots, maxExtra)
	q.AddCapacity(slots)
	return q
}

func TestAWaitingTaskGivesAnExtraSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := limited(&back, 1, 2)
		expect := func(what string, want int) {
			t.Helper()
			if n := demand(t, q); n != want {
				t.Errorf("%s: demand %d, want %d", what, n, want)
			}
		}
		q.Offer(tasks(0, 1))
		took(t, q, 1)
		expect("the slot is in use", 0)
		q.Update(works, waits)
		expect("no child for the extra slot", 0)
		q.AddCapacity(1)
		expect("an extra slot", 1)
		q.Offer(tasks(1, 2))
		if got := took(t, q, 4); !slices.Equal(got, []int64{1}) {
			t.Errorf("took %v", got)
		}
		expect("both are in use", 0)
		q.Update(works, waits) // the second task waits too
		q.AddCapacity(1)
		expect("a second extra slot", 1)
		q.Offer(tasks(2, 3))
		took(t, q, 4)
		q.Update(works, waits)
		q.AddCapacity(1)
		expect("no more than two extra slots", 0)
		if c := q.Counts(); c != (dispatch.Counts{Capacity: 4, Running: 3, Extra: 2}) {
			t.Errorf("%+v", c)
		}
		q.Release(waits)
		expect("two extra slots for two waiting tasks", 1)
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

// TestAnExtraChildTakesNothingAfterItsSlotHasEnded: an extra child acquires tasks like
// any other, and claimed tasks do not justify running two at once.
func TestAnExtraChildTakesNothingAfterItsSlotHasEnded(t *testing.T) {
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

// TestWhatCannotStartBesideAWaitingTaskIsRequeued: the task was claimed ahead for a
// slot that does not become free, and may be the one that is waited for.
func TestWhatCannotStartBesideAWaitingTaskIsRequeued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for maxExtra := range 2 {
			var back returns
			q := limited(&back, 1, maxExtra)
			for range 200 { // 10,000 a second, so that the queue claims ahead
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
			if n := demand(t, q); n != 0 {
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
	q.Update(works, waits) // a child without a task is up
	if got := took(t, q, 4); len(back.ts) > 0 || !slices.Equal(got, []int64{2}) {
		t.Errorf("took %v, gave back %v", got, seqs(back.ts))
	}
}

// TestARecordOnItsWayToAnExtraSlotIsKept: a blocking wait moved it into the inbox of
// this run while the extra slot ended. It must not stay there until the resumed task
// ends.
func TestARecordOnItsWayToAnExtraSlotIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := limited(&back, 1, 1)
		q.Offer(tasks(0, 1))
		took(t, q, 1)
		q.Update(works, waits)
		q.AddCapacity(1)
		if n := demand(t, q); n != 1 {
			t.Fatalf("demand %d", n)
		}
		q.Update(waits, works)
		lastLook(t, q, &back, 1)
	})
}

// TestAChildThatEndsTakesNoSlotOfTheOthers: the slot of its long task leaves the
// capacity with it.
func TestAChildThatEndsTakesNoSlotOfTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := limited(&back, 8, 0) // two children of four
		q.Offer(tasks(0, 3))
		took(t, q, 3)
		for range 3 { // their child is told to finish
			q.Update(works, task.SlotState{OutsideCapacity: true})
		}
		q.AddCapacity(-4)
		if n := demand(t, q); n != 4 {
			t.Errorf("demand %d of the other child's 4", n)
		}
		q.AddCapacity(4) // its replacement
		if n := demand(t, q); n != 5 {
			t.Errorf("demand %d, want 5: eight may run, and three do", n)
		}
		q.Release(task.SlotState{OutsideCapacity: true})
		if n := demand(t, q); n != 6 {
			t.Errorf("demand %d", n)
		}
	})
}

// TestAnIsolatedTaskThatWaitsIsNotAlone: the tasks that it waits for may have no other
// place to run. When it resumes, no other task starts.
func TestAnIsolatedTaskThatWaitsIsNotAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := limited(&back, 1, 4)
		isolated := tasks(0, 1)
		isolated[0].Isolation = task.IsolateRun
		q.Offer(isolated)
		took(t, q, 1)
		if n := demand(t, q); n != 0 {
			t.Fatalf("demand %d beside it", n)
		}
		q.Update(task.SlotState{Isolated: true}, task.SlotState{Isolated: true, Waiting: true})
		q.AddCapacity(1)
		if n := demand(t, q); n != 1 {
			t.Fatalf("demand %d while it waits", n)
		}

		// A nested task may itself be isolated: it starts when all others only wait.
		nested := tasks(1, 2)
		nested[0].Isolation = task.IsolateRun
		q.Offer(nested)
		if got := took(t, q, 1); !slices.Equal(got, []int64{1}) {
			t.Fatalf("took %v", got)
		}
		q.AddCapacity(1)
		if n := demand(t, q); n != 0 {
			t.Fatalf("demand %d beside the nested one", n)
		}
		q.Release(task.SlotState{Isolated: true})
		if n := demand(t, q); n != 1 {
			t.Fatalf("demand %d when the nested one had ended", n)
		}

		q.Update(task.SlotState{Isolated: true, Waiting: true}, task.SlotState{Isolated: true})
		q.Offer(tasks(2, 4)) // the tasks of that claim
		if got := seqs(back.ts); !slices.Equal(got, []int64{3, 2}) {
			t.Errorf("gave back %v", got)
		}
		if n := demand(t, q); n != 1 {
			t.Errorf("demand %d, and not one last look", n)
		}
		if n := demand(t, q); n != 0 {
			t.Errorf("demand %d beside the isolated one that works again", n)
		}
		q.Release(task.SlotState{Isolated: true})
		if n := demand(t, q); n != 1 {
			t.Errorf("demand %d after it", n)
		}
	})
}
