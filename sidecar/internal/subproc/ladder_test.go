package subproc_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/subproc"
)

// TestWithinPrefersWhatIsDone: select alone answers at random where both the end and
// the time are there.
func TestWithinPrefersWhatIsDone(t *testing.T) {
	done := make(chan struct{})
	close(done)
	for range 1000 {
		if !subproc.Within(done, 0) {
			t.Fatal("what was closed before was not seen")
		}
	}
	synctest.Test(t, func(t *testing.T) {
		if subproc.Within(make(chan struct{}), time.Second) || subproc.Within(nil, 0) {
			t.Error("what is not closed was seen")
		}
	})
}
