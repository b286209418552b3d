package local_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// TestWithinPrefersWhatIsDone: a select picks at random if both the end and the timeout
// are ready.
func TestWithinPrefersWhatIsDone(t *testing.T) {
	done := make(chan struct{})
	close(done)
	for range 1000 {
		if !local.Within(done, 0) {
			t.Fatal("what was closed before was not seen")
		}
	}
	synctest.Test(t, func(t *testing.T) {
		if local.Within(make(chan struct{}), time.Second) || local.Within(nil, 0) {
			t.Error("what is not closed was seen")
		}
	})
}
