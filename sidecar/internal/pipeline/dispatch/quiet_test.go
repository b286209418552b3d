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

// TestQuietHasNoDemandAfterOneLastClaim: the records of the last claim are requeued,
// earlier tasks start, and Resume restores the demand.
func TestQuietHasNoDemandAfterOneLastClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := dispatch.New(back.exits())
		q.AddCapacity(4)
		q.Offer(tasks(0, 2))
		demand := func() int {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			n, err := q.Demand(ctx)
			if errors.Is(err, context.DeadlineExceeded) {
				return 0
			}
			return n
		}
		q.Quiet()
		if n := demand(); n != 1 {
			t.Errorf("the last look wants %d", n)
		}
		q.Offer(tasks(7, 8)) // the last claim found one
		if n := demand(); n != 0 {
			t.Errorf("demand %d while quiet", n)
		}
		q.Quiet() // a second call changes nothing
		if n := demand(); n != 0 || !q.IsQuiet() {
			t.Errorf("demand %d after being told twice", n)
		}
		if got := seqs(back.ts); !slices.Equal(got, []int64{7}) {
			t.Errorf("gave back %v", got)
		}
		if ts, err := q.Acquire(t.Context(), 4); err != nil || !slices.Equal(seqs(ts), []int64{0, 1}) {
			t.Errorf("took %v, %v", seqs(ts), err)
		}
		q.ReleaseAll(make([]task.SlotState, 2))
		q.Resume()
		if n := demand(); n != 4 || q.IsQuiet() {
			t.Errorf("demand %d after Resume", n)
		}
	})
}

// TestAWaitingDemandSeesQuietAndResume: Quiet and Resume take effect on a call of
// Demand that waits.
func TestAWaitingDemandSeesQuietAndResume(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := dispatch.New(nowhere)
		demand := make(chan int)
		go func() {
			for range 2 {
				n, _ := q.Demand(t.Context())
				demand <- n
			}
		}()
		synctest.Wait()
		q.Quiet()
		if n := <-demand; n != 1 {
			t.Errorf("the last look wants %d", n)
		}
		synctest.Wait()
		q.AddCapacity(3)
		synctest.Wait()
		select {
		case n := <-demand:
			t.Errorf("demand %d while quiet", n)
		default:
		}
		q.Resume()
		if n := <-demand; n != 3 {
			t.Errorf("demand %d after Resume", n)
		}
	})
}

// lastLook checks that one record is claimed although no slot is free, and is requeued.
func lastLook(t *testing.T, q *dispatch.Queue, back *returns, seq int) {
	t.Helper()
	if n := demand(t, q); n != 1 {
		t.Fatalf("demand %d, and not one last look", n)
	}
	q.Offer(tasks(seq, seq+1))
	if got := seqs(back.ts); !slices.Equal(got, []int64{int64(seq)}) {
		t.Errorf("gave back %v", got)
	}
	if n := demand(t, q); n != 0 {
		t.Errorf("demand %d again", n)
	}
}

// TestARecordOnItsWayWhenTheLastWorkerEndsIsRequeued: the outstanding blocking wait has
// brought the record, and this sidecar has no worker for it.
func TestARecordOnItsWayWhenTheLastWorkerEndsIsRequeued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := dispatch.New(back.exits())
		q.AddCapacity(1)
		q.AddCapacity(-1)
		if n := demand(t, q); n != 0 {
			t.Fatalf("demand %d without a worker", n)
		}
		q.NotifyArrival()
		lastLook(t, q, &back, 0)
	})
}
