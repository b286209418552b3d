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

func kindTasks(kind int, numbers ...int64) []task.Task {
	var ts []task.Task
	for _, n := range numbers {
		ts = append(ts, task.Task{Seq: n, Kind: kind})
	}
	return ts
}

func same[T comparable](t *testing.T, what string, got, want []T) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestKindsHaveTheirOwnSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := dispatch.NewKinds(3, back.exits())
		a, b := q.LaneOf(0), q.LaneOf(1)
		a.Limit(2, 0)
		b.Limit(3, 1)
		a.AddCapacity(2)
		b.AddCapacity(3)
		same(t, "demand", q.Demands(), []int{2, 3, 0})
		if n, err := q.Demand(t.Context()); n != 5 || err != nil {
			t.Errorf("want %d, %v", n, err)
		}
		q.Offer(append(kindTasks(1, 1, 2), kindTasks(0, 3)...))
		q.Offer(kindTasks(2, 4)) // no child of that kind is up
		same(t, "given back", seqs(back.ts), []int64{4})
		same(t, "taken by b", took(t, b, 9), []int64{1, 2})
		same(t, "taken by a", took(t, a, 9), []int64{3})
		same(t, "demand", q.Demands(), []int{1, 1, 0})
		b.Update(task.SlotState{}, task.SlotState{Waiting: true})
		b.AddCapacity(1) // a child for an extra slot
		same(t, "demand with an extra slot", q.Demands(), []int{1, 2, 0})
		if c := q.Counts(); c != (dispatch.Counts{Capacity: 6, Running: 3, Extra: 1}) {
			t.Errorf("counts: %+v", c)
		}
		q.Offer(kindTasks(0, 5))
		a.AddCapacity(-2) // its workers keep dying
		same(t, "given back", seqs(back.ts), []int64{4, 5})
		same(t, "demand", q.Demands(), []int{0, 2, 0})
		q.Close()
		if _, err := b.Acquire(t.Context(), 1); !errors.Is(err, dispatch.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	})
}

// TestDemandOfKindsReturnsOnceASecond: a claim by kinds maintains the unrouted records
// even without demand, but not while the queue is quiet.
func TestDemandOfKindsReturnsOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := dispatch.NewKinds(2, nowhere)
		began := time.Now()
		for range 3 {
			if n, err := q.Demand(t.Context()); n != 0 || err != nil {
				t.Errorf("want %d, %v", n, err)
			}
		}
		if d := time.Since(began); d != 3*time.Second {
			t.Errorf("took %v", d)
		}
		q.Quiet()
		if n, err := q.Demand(t.Context()); n != 1 || err != nil {
			t.Errorf("the last look wants %d, %v", n, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := q.Demand(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("while quiet: %v", err)
		}
	})
}

func TestAwaitDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := dispatch.NewKinds(2, nowhere)
		wait := func() time.Duration {
			began := time.Now()
			q.AwaitDemand(t.Context(), 100*time.Millisecond)
			return time.Since(began)
		}
		q.LaneOf(0).AddCapacity(1)
		if d := wait(); d != 0 {
			t.Errorf("a slot was free: waited %v", d)
		}
		if d := wait(); d != 100*time.Millisecond {
			t.Errorf("nothing changed: waited %v", d)
		}
		time.AfterFunc(30*time.Millisecond, func() { q.LaneOf(1).AddCapacity(1) })
		if d := wait(); d != 30*time.Millisecond {
			t.Errorf("waited %v for a slot", d)
		}
	})
}

// TestIsolationOverAllKinds: a task that must run alone in the sidecar runs alone over
// all kinds.
func TestIsolationOverAllKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := dispatch.NewKinds(2, back.exits())
		a, b := q.LaneOf(0), q.LaneOf(1)
		a.AddCapacity(2)
		b.AddCapacity(2)
		q.Offer(kindTasks(1, 1))
		same(t, "b's", took(t, b, 1), []int64{1})
		alone := task.Task{Seq: 2, Kind: 0, Isolation: task.IsolateRun}
		q.Offer([]task.Task{alone, {Seq: 3, Kind: 1}})
		same(t, "what came with it goes back", seqs(back.ts), []int64{3})
		same(t, "no demand", q.Demands(), []int{0, 0})
		same(t, "it waits for b's", took(t, a, 1), nil)
		got := make(chan []task.Task)
		go func() {
			ts, _ := a.Acquire(t.Context(), 1)
			got <- ts
		}()
		synctest.Wait()
		b.Release(task.SlotState{})
		same(t, "then it starts", seqs(<-got), []int64{2})
		same(t, "no demand", q.Demands(), []int{0, 0})
		q.Offer(kindTasks(1, 4))
		same(t, "what comes meanwhile goes back", seqs(back.ts), []int64{3, 4})
		a.Release(task.SlotState{Isolated: true})
		same(t, "demand again", q.Demands(), []int{2, 2})
	})
}
