package app

import (
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// A retryable failure is tried again until the attempts are used up; one that
// is Redis' for ever, since it costs none.
func TestWhatARetryableFailureBecomes(t *testing.T) {
	for _, c := range []struct {
		name, reason string
		attempt      int
		want         task.Kind
	}{
		{"the first attempt", "ValueError", 1, task.Retry},
		{"the last but one", "ValueError", 2, task.Retry},
		{"the last", "ValueError", 3, task.Failed},
		{"beyond it, after crashes", "ValueError", 4, task.Failed},
		{"Redis was away", report.RedisUnavailable, 3, task.Retry},
	} {
		t.Run(c.name, func(t *testing.T) {
			box := report.NewBox()
			f := filing{box: box, maxAttempts: 3, stops: &stopExcuse{clock: newStopClock(time.Second)}}
			f.Done(task.Outcome{Task: task.Task{Delivery: "w.1", Attempt: c.attempt}, Kind: task.Retry, Reason: c.reason})
			if left := box.Left(); len(left) != 1 || left[0].Kind != c.want {
				t.Errorf("filed as %+v, want %v", left, c.want)
			}
		})
	}
}
