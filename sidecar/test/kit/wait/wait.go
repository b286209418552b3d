// Package wait polls what happens outside of a test's own process or goroutine.
package wait

import (
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
)

// Patience is how long Until waits for what is bound to happen, by the clock of the
// machine: it ends a test that hangs and is no bound on the product.
const Patience = 40 * time.Second

// Polls come slowly enough to leave the processor to what is waited for.
const (
	firstPoll = time.Millisecond
	mostPoll  = 10 * time.Millisecond
)

// Until polls a condition and fails the test at once where it never holds.
func Until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	if !poll(Patience, holds) {
		t.Fatalf("waited %v in vain for %s", Patience, what)
	}
}

// Within polls a condition and reports whether it held within d, by the clock of the
// machine. Where it did not, the test goes on and fails.
func Within(t testing.TB, d time.Duration, what string, holds func() bool) bool {
	t.Helper()
	if !poll(d, holds) {
		t.Errorf("within %v there was not: %s", d, what)
		return false
	}
	return true
}

func poll(patience time.Duration, holds func() bool) bool {
	began, clock := time.Now(), machine.NewClock()
	for next := firstPoll; !holds(); next = min(2*next, mostPoll) {
		if clock.Since(began) > patience {
			return false
		}
		Pass(next)
		clock.Look()
	}
	return true
}

// Pass lets time go by: how long something stays as it is belongs to the test.
func Pass(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}
