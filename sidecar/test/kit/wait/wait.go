// Package wait polls conditions that depend on other processes or goroutines.
package wait

import (
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
)

// Patience is how long Until waits for a condition, by the clock of package machine. It ends
// a test that hangs and is no bound on the product.
const Patience = 40 * time.Second

// The polls are rare enough to leave the processor to the code that the test waits for.
const (
	firstPoll = time.Millisecond
	mostPoll  = 10 * time.Millisecond
)

// Until polls a condition, and ends the test as failed if it does not hold within Patience.
func Until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	if !poll(Patience, holds) {
		t.Fatalf("waited %v in vain for %s", Patience, what)
	}
}

// Within polls a condition and reports whether it held within d, by the clock of package
// machine. If it did not, the test is marked as failed and goes on.
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

// Pass waits for d, in tests in which a duration is part of what they test.
func Pass(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	<-timer.C
}
