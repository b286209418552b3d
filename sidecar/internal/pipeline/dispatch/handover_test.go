package dispatch_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
)

// TestHandoverWatch: the time of a startable task begins anew whenever a task is
// acquired, and when no slot was free meanwhile.
func TestHandoverWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &dispatch.HandoverWatch{}
		for i, look := range []struct {
			dispatch.Handover
			want time.Duration
		}{
			{dispatch.Handover{Taken: 5, Startable: true}, 0}, // a slot has just become free
			{dispatch.Handover{Taken: 6, Startable: true}, 0},
			{dispatch.Handover{Taken: 6, Startable: true}, time.Minute},
			{dispatch.Handover{Taken: 6}, 0},
			{dispatch.Handover{Taken: 6, Startable: true}, 0},
			{dispatch.Handover{Taken: 6, Startable: true}, time.Minute},
			{dispatch.Handover{Taken: 6, Startable: true}, 2 * time.Minute},
			{dispatch.Handover{Taken: 7, Startable: true}, 0},
		} {
			if got := w.Overdue(30*time.Second, look.Handover); got != look.want {
				t.Errorf("look %d: %v, want %v", i, got, look.want)
			}
			time.Sleep(time.Minute)
		}
	})
}
