package app

import (
	"slices"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

func TestThePauseBeforeARetryDoublesUpToItsCap(t *testing.T) {
	r := RetryConfig{Base: 100 * time.Millisecond, Max: time.Second}
	var got []time.Duration
	for _, attempt := range []int{0, 1, 2, 3, 4, 5, 6, 100} {
		got = append(got, r.delay(attempt)/time.Millisecond)
	}
	if want := []time.Duration{100, 100, 200, 400, 800, 1000, 1000, 1000}; !slices.Equal(got, want) {
		t.Errorf("pauses in ms: %v, want %v", got, want)
	}
}

// Chance only ever shortens a pause, by up to the given share, and spreads it
// over all of that.
func TestJitterTakesOffUpToItsShare(t *testing.T) {
	r := RetryConfig{Base: time.Second, Max: time.Minute, Jitter: 0.5}
	least, most := time.Hour, time.Duration(0)
	for range 10_000 {
		d := r.delay(3)
		least, most = min(least, d), max(most, d)
	}
	if least < 2*time.Second || most > 4*time.Second || least > 2100*time.Millisecond || most < 3900*time.Millisecond {
		t.Errorf("pauses from %v to %v; want 2 s to 4 s", least, most)
	}
}

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
		{"Redis was away", redisUnavailable, 3, task.Retry},
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
