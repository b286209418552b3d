package claim

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
)

// TestWaitingWithKinds: the source blocks in Redis only if the queue is empty and a
// slot is free. A call of Redis would fail, since the test has none.
func TestWaitingWithKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		queue := dispatch.NewKinds(2, dispatch.Exits{})
		r := &RoutedRedis{demands: queue}
		waits := func() time.Duration {
			t.Helper()
			began := time.Now()
			if _, err := r.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			return time.Since(began)
		}
		if d := waits(); d != 0 {
			t.Errorf("no slot is free: waited %v", d)
		}
		queue.LaneOf(1).AddCapacity(1)
		r.remaining = 3
		if d := waits(); d != 0 {
			t.Errorf("a slot has just become free: waited %v", d)
		}
		if d := waits(); d != slotWait {
			t.Errorf("only tasks of full kinds are left: waited %v", d)
		}
		time.AfterFunc(slotWait/2, func() { queue.LaneOf(0).AddCapacity(1) })
		if d := waits(); d != slotWait/2 {
			t.Errorf("a slot becomes free: waited %v", d)
		}
		r.parked = 5
		if d := waits(); d != 0 {
			t.Errorf("others are in sight: waited %v", d)
		}
		defer func() {
			if recover() == nil {
				t.Error("an empty queue was not asked about")
			}
		}()
		r.parked, r.remaining = 0, 0
		waits()
	})
}
