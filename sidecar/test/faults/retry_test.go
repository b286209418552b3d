//go:build faults

package faults

import (
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
)

// TestRetries runs tasks that fail with an error that the worker marks as retryable. The
// sidecar runs them again after a pause that doubles. When the attempts are used up the task
// has failed; it leaves no dead letter, since no process died.
func TestRetries(t *testing.T) {
	t.Parallel()
	const base = 400 * time.Millisecond
	w := newWorld(t)
	w.crew(2, setup{env: []string{"SIDECAR_RETRY_BASE=400ms", "SIDECAR_RETRY_JITTER=0", "SIDECAR_MAX_ATTEMPTS=3"}})
	w.hurt("failures that are retryable")
	w.group(record{Do: "retry always"}, record{Do: "retry"}, record{Ms: 20})
	w.settle(20 * time.Second)
	f, s := w.verify("retryable failures")
	if len(f.Letters) != 0 {
		t.Errorf("dead letters: %+v", f.Letters)
	}
	for id, p := range w.tasks {
		starts, want := s.Of(id).Starts, 1
		switch p.Do {
		case "retry always":
			want = 3
		case "retry":
			want = 2
		}
		if len(starts) != want {
			t.Errorf("%s (%s) ran %d times, want %d", id, p.Do, len(starts), want)
			continue
		}
		for i := 1; i < want; i++ {
			from, to := starts[i-1].Time(), starts[i].Time()
			pause := to.Sub(from)
			// Delayed records are promoted once a second.
			if least := base << (i - 1); pause < least || machine.Between(from, to) > least+2*time.Second {
				t.Errorf("%s was tried again after %v, want %v and at most a tick more", id, pause, least)
			}
		}
		if c := f.Completions[p.Group][id]; c.Success != (p.Do != "retry always") {
			t.Errorf("%s (%s): %+v", id, p.Do, c)
		}
	}
}
