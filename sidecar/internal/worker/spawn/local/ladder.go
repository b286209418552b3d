package local

import (
	"context"
	"syscall"
	"time"
)

// forceStopStep is the time between the steps of the ladder during a force stop.
const forceStopStep = 300 * time.Millisecond

// End ends a process, harder with every step, and returns when its group is
// dead: closeStdin (if there is one), SIGTERM, SIGKILL. The steps are grace
// apart, the first a quarter of it; when hard ends, much less.
func End(hard context.Context, p Process, closeStdin func(), grace time.Duration) {
	if closeStdin != nil {
		closeStdin()
		if AwaitExit(hard, p, grace/4) {
			return
		}
	}
	p.Signal(syscall.SIGTERM)
	if AwaitExit(hard, p, grace) {
		return
	}
	p.Signal(syscall.SIGKILL)
	<-p.Exited()
}

// AwaitExit waits for the process to end, for d or, once hard has ended, for a
// moment at most, and reports whether it did.
func AwaitExit(hard context.Context, p Process, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.Exited():
		return true
	case <-t.C:
		return Within(p.Exited(), 0)
	case <-hard.Done():
		return Within(p.Exited(), min(d, forceStopStep))
	}
}

// Within waits until done is closed, for d at most, and reports whether it was. With a d
// of 0 it only looks: select alone picks at random among what is ready, which lost a
// drained task half of the time.
func Within(done <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
	}
	select { // in the same moment
	case <-done:
		return true
	default:
		return false
	}
}
