package dispatch_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// TestNothingLeavesBetweenHaltAndClose: whatever happens to tasks that were not started,
// they are requeued by Close, all of them in their order.
func TestNothingLeavesBetweenHaltAndClose(t *testing.T) {
	for name, does := range map[string]func(q *dispatch.Queue){
		"nothing":                 func(*dispatch.Queue) {},
		"the workers end":         func(q *dispatch.Queue) { q.AddCapacity(-4) },
		"a task waits":            func(q *dispatch.Queue) { q.Update(works, waits) },
		"the queue becomes quiet": func(q *dispatch.Queue) { q.Quiet() },
		"a second halt":           func(q *dispatch.Queue) { q.Halt() },
		"a task comes back":       func(q *dispatch.Queue) { q.Return(tasks(0, 1)) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var back returns
				q := limited(&back, 4, 0)
				q.Offer(tasks(0, 4))
				took(t, q, 4)
				q.Offer(tasks(4, 6))
				q.Halt()
				does(q)
				q.Offer(append(tasks(6, 7), isolatedTasks(7, 8)...)) // the reply of the last claim
				same(t, "requeued before Close", seqs(back.ts), nil)
				q.Close()
				want := []int64{7, 6, 5, 4}
				if name == "a task comes back" {
					want = append(want, 0)
				}
				same(t, "requeued by Close", seqs(back.ts), want)
				same(t, "deferred", seqs(back.aside), nil)
				q.Close()
				same(t, "requeued by a second Close", seqs(back.ts), want)
				q.Return(tasks(1, 2))
				same(t, "requeued after Close", seqs(back.ts), append(want, 1))
			})
		})
	}
}

// TestAnIsolatedTaskThatComesBackWhileHalted: another one is pending.
func TestAnIsolatedTaskThatComesBackWhileHalted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := limited(&back, 4, 0)
		time.Sleep(time.Minute) // claims may be blocked again
		q.Offer(isolatedTasks(0, 1))
		got, err := q.Acquire(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		q.Update(alone, task.SlotState{Isolated: true, Waiting: true})
		q.Offer(isolatedTasks(1, 2))
		q.Update(task.SlotState{Isolated: true, Waiting: true}, alone)
		same(t, "requeued when the first works again", seqs(back.ts), nil)
		q.Halt()
		q.Return(got)
		same(t, "requeued before Close", seqs(back.ts), nil)
		q.Close()
		same(t, "requeued by Close", seqs(back.ts), []int64{1, 0})
	})
}

func TestExpectReservesSlots(t *testing.T) {
	q := dispatch.NewKinds(2, nowhere)
	q.LaneOf(0).AddCapacity(4)
	q.LaneOf(1).AddCapacity(4)
	q.Expect(0, 3)
	q.Expect(1, 1)
	for _, kind := range []int{task.KindUnknown, task.KindNone, 2} {
		q.Expect(kind, 1)
	}
	same(t, "demands", q.Demands(), []int{1, 3})
	q.Expect(0, -3)
	same(t, "demands", q.Demands(), []int{4, 3})
}

// TestAnArrivalAsksForAllFreeSlots: and for one record without a free slot.
func TestAnArrivalAsksForAllFreeSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := limited(&back, 4, 0)
		q.NotifyArrival()
		if n := demand(t, q); n != 4 {
			t.Errorf("demand %d with four free slots", n)
		}
		q.Expect(0, 4)
		q.NotifyArrival()
		if n := demand(t, q); n != 1 {
			t.Errorf("demand %d while all slots are reserved", n)
		}
		q.Offer(tasks(0, 1)) // a slot is reserved for it
		same(t, "requeued", seqs(back.ts), nil)
	})
}

// TestAnIsolatedTaskStartsInItsLane: and within the limit of slots.
func TestAnIsolatedTaskStartsInItsLane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := dispatch.NewKinds(2, back.exits())
		for kind := range 2 {
			q.LaneOf(kind).Limit(1, 0)
			q.LaneOf(kind).AddCapacity(1)
		}
		isolated := isolatedTasks(0, 1)
		isolated[0].Kind = 1
		q.Offer(isolated)
		same(t, "in the other lane", took(t, q.LaneOf(0), 1), nil)
		q.LaneOf(0).AddCapacity(-1) // the workers of the other lane end
		same(t, "requeued", seqs(back.ts), nil)
		same(t, "in its lane", took(t, q.LaneOf(1), 1), []int64{0})

		q.LaneOf(1).Update(alone, task.SlotState{Isolated: true, Waiting: true})
		q.LaneOf(1).AddCapacity(1)
		isolated[0].Seq = 1
		q.Return(nil)
		q.Offer(isolated)
		same(t, "beside a waiting task that has the only slot", took(t, q.LaneOf(1), 1), nil)
	})
}

// TestTasksOfAllKindsLeaveForAnIsolatedOne: it has waited for a nested task and works
// again.
func TestTasksOfAllKindsLeaveForAnIsolatedOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := dispatch.NewKinds(2, back.exits())
		for kind := range 2 {
			q.LaneOf(kind).Limit(4, 0)
			q.LaneOf(kind).AddCapacity(4)
		}
		time.Sleep(time.Minute)
		q.Offer(isolatedTasks(0, 1))
		same(t, "taken", took(t, q.LaneOf(0), 1), []int64{0})
		q.LaneOf(0).Update(alone, task.SlotState{Isolated: true, Waiting: true})
		q.Offer(kindTasks(1, 1, 2))
		q.LaneOf(0).Update(task.SlotState{Isolated: true, Waiting: true}, alone)
		same(t, "requeued", seqs(back.ts), []int64{2, 1})
	})
}

// TestAnUpdateThatIsNoWaitRequeuesNothing: tasks that were claimed ahead stay.
func TestAnUpdateThatIsNoWaitRequeuesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := limited(&back, 1, 0)
		q.Offer(tasks(0, 3))
		took(t, q, 1)
		q.Update(works, task.SlotState{OutsideCapacity: true})
		same(t, "requeued", seqs(back.ts), nil)
	})
}

// TestOnlyAWaitForgetsTheRate: a task that resumes does not.
func TestOnlyAWaitForgetsTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := limited(&back, 2, 0)
		ahead := func(free int) int { return q.Demands()[0] - free }
		measure := func() {
			for range 100 {
				q.Offer(tasks(0, 1))
				took(t, q, 1)
				time.Sleep(time.Millisecond)
				q.Release(works)
			}
		}
		measure()
		if n := ahead(2); n < 3 {
			t.Fatalf("%d claimed ahead at 1,000 tasks a second", n)
		}
		q.Offer(tasks(0, 1))
		took(t, q, 1)
		q.Update(works, waits)
		if n := ahead(1); n != 0 {
			t.Errorf("%d claimed ahead after a wait began", n)
		}
		measure()
		q.Update(waits, works)
		if n := ahead(1); n < 3 {
			t.Errorf("%d claimed ahead after a wait ended", n)
		}
		q.AddCapacity(-2)
		if n := ahead(0); n != 0 {
			t.Errorf("%d claimed ahead without workers", n)
		}
	})
}

// TestACancelledAcquireLeavesTheOthers: the queue forgets the one that was cancelled.
func TestACancelledAcquireLeavesTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := dispatch.New(nowhere)
		q.AddCapacity(2)
		first := make(chan []task.Task, 1)
		go func() { ts, _ := q.Acquire(t.Context(), 1); first <- ts }()
		synctest.Wait()
		took(t, q, 1) // is cancelled
		q.Offer(tasks(0, 1))
		synctest.Wait()
		select {
		case ts := <-first:
			same(t, "taken", seqs(ts), []int64{0})
		default:
			t.Error("the first Acquire got nothing")
			q.Close()
		}
	})
}

// TestACancelledAcquireReturnsWhatItGot: a task and the end of the context may come in one
// moment.
func TestACancelledAcquireReturnsWhatItGot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := dispatch.New(nowhere)
		q.AddCapacity(2)
		for range 500 {
			ctx, cancel := context.WithCancel(t.Context())
			got := make(chan []task.Task, 1)
			go func() { ts, _ := q.Acquire(ctx, 1); got <- ts }()
			synctest.Wait()
			cancel()
			q.Offer(tasks(0, 1))
			ts := <-got
			if len(ts) == 0 {
				ts = tasks(0, len(took(t, q, 1)))
			}
			if len(ts) != 1 {
				t.Fatal("the task is lost")
			}
			q.Release(works)
		}
	})
}

// TestHandoverOfOneLane: one startable task is enough.
func TestHandoverOfOneLane(t *testing.T) {
	q := dispatch.NewKinds(2, nowhere)
	q.LaneOf(0).AddCapacity(1)
	q.Offer(kindTasks(0, 1))
	if !q.Handover().Startable {
		t.Error("the task of the first lane is not startable")
	}
}

// TestHandoverWatchBound: a task that has waited exactly as long is not overdue.
func TestHandoverWatchBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w dispatch.HandoverWatch
		startable := dispatch.Handover{Startable: true}
		w.Overdue(time.Minute, startable)
		time.Sleep(time.Minute)
		if d := w.Overdue(time.Minute, startable); d != 0 {
			t.Errorf("overdue by %v", d)
		}
		if d := w.Overdue(time.Minute-1, startable); d != time.Minute {
			t.Errorf("overdue by %v, want a minute", d)
		}
	})
}

// TestAnIsolatedTaskIsNotDeferredWhileHalted: it is requeued with the others, also when claims
// were blocked for as long as they may be.
func TestAnIsolatedTaskIsNotDeferredWhileHalted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := limited(&back, 4, 0)
		q.Offer(isolatedTasks(0, 1))
		took(t, q, 1)
		time.Sleep(time.Minute)
		q.Release(alone)
		q.Offer(tasks(1, 2))
		took(t, q, 1)
		q.Halt()
		q.Offer(isolatedTasks(2, 3))
		same(t, "deferred", seqs(back.aside), nil)
		q.Close()
		same(t, "requeued", seqs(back.ts), []int64{2})
	})
}
