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

// TestQuietWantsNothingAfterOneLastLook: what that look finds goes back, what
// was there before starts, and Resume wants again.
func TestQuietWantsNothingAfterOneLastLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := dispatch.New(back.exits())
		q.AddCapacity(4)
		q.Offer(tasks(0, 2))
		wanted := func() int {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			n, err := q.Demand(ctx)
			if errors.Is(err, context.DeadlineExceeded) {
				return 0
			}
			return n
		}
		q.Quiet()
		if n := wanted(); n != 1 {
			t.Errorf("the last look wants %d", n)
		}
		q.Offer(tasks(7, 8)) // it found one
		if n := wanted(); n != 0 {
			t.Errorf("wanted %d while quiet", n)
		}
		q.Quiet() // a second one changes nothing
		if n := wanted(); n != 0 || !q.IsQuiet() {
			t.Errorf("wanted %d after being told twice", n)
		}
		if got := seqs(back.ts); !slices.Equal(got, []int64{7}) {
			t.Errorf("gave back %v", got)
		}
		if ts, err := q.Acquire(t.Context(), 4); err != nil || !slices.Equal(seqs(ts), []int64{0, 1}) {
			t.Errorf("took %v, %v", seqs(ts), err)
		}
		q.ReleaseAll(make([]task.SlotState, 2))
		q.Resume()
		if n := wanted(); n != 4 || q.IsQuiet() {
			t.Errorf("wanted %d after Resume", n)
		}
	})
}

// TestAWantThatWaitsSeesQuietAndResume: the claim loop may wait in either.
func TestAWantThatWaitsSeesQuietAndResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := dispatch.New(nowhere)
		wanted := make(chan int)
		go func() {
			for range 2 {
				n, _ := q.Demand(t.Context())
				wanted <- n
			}
		}()
		synctest.Wait()
		q.Quiet()
		if n := <-wanted; n != 1 {
			t.Errorf("the last look wants %d", n)
		}
		synctest.Wait()
		q.AddCapacity(3)
		synctest.Wait()
		select {
		case n := <-wanted:
			t.Errorf("wanted %d while quiet", n)
		default:
		}
		q.Resume()
		if n := <-wanted; n != 3 {
			t.Errorf("wanted %d after Resume", n)
		}
	})
}

// lastLook: one record is wanted though nothing can run it, and goes back.
func lastLook(t *testing.T, q *dispatch.Queue, back *returns, seq int) {
	t.Helper()
	if n := wanted(t, q); n != 1 {
		t.Fatalf("wanted %d, and not one last look", n)
	}
	q.Offer(tasks(seq, seq+1))
	if got := seqs(back.ts); !slices.Equal(got, []int64{int64(seq)}) {
		t.Errorf("gave back %v", got)
	}
	if n := wanted(t, q); n != 0 {
		t.Errorf("wanted %d again", n)
	}
}

// TestARecordOnItsWayWhenTheLastWorkerGoesIsGivenBack: the blocking wait that was
// under way has brought the record, and this sidecar has no worker that takes it.
func TestARecordOnItsWayWhenTheLastWorkerGoesIsGivenBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := dispatch.New(back.exits())
		q.AddCapacity(1)
		q.AddCapacity(-1)
		if n := wanted(t, q); n != 0 {
			t.Fatalf("wanted %d without a worker", n)
		}
		q.NotifyArrival()
		lastLook(t, q, &back, 0)
	})
}
