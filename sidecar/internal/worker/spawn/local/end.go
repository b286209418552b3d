package local

import (
	"context"
	"syscall"
	"time"
)

// forceStopStep is the time between the steps of End during a force stop.
const forceStopStep = 300 * time.Millisecond

// End ends a process in steps and returns when its group is dead: closeStdin, if it is
// not nil, then SIGTERM, then SIGKILL. The first step lasts a quarter of grace, the
// second grace; both are much shorter once hard has ended.
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

// AwaitExit waits until the process ends, for d or, once hard has ended, for a moment
// at most, and reports whether it has ended.
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

// Within waits until done is closed, for d at most, and reports whether it was closed.
// With a d of 0 it does not wait: a select alone picks at random among the ready cases,
// which once lost a drained task half of the time.
func Within(done <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
	}
	select { // at the same time
	case <-done:
		return true
	default:
		return false
	}
}
