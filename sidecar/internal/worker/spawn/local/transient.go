package local

import (
	"errors"
	"strings"
	"syscall"
	"time"
)

// transientFor is how long a start may fail for reasons that pass.
const transientFor = time.Minute

// ErrPasses is in the chain of a [StartError] whose reason passes, which no system call
// shows: see [Passes].
var ErrPasses = errors.New("the reason passes")

// IsTransient reports whether a start failed for a reason that passes by itself: the
// file is being written to, by a deployment that copies over it, or there is no
// process, memory or descriptor left at the moment.
func IsTransient(err error) bool {
	for _, passes := range []error{syscall.ETXTBSY, syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, ErrPasses} {
		if errors.Is(err, passes) {
			return true
		}
	}
	return false
}

// cannotExecute is the status of env and of shells that found a program and could not
// execute it.
const cannotExecute = 126

// IsBusy reports whether p ended since what it was to execute is being written to: a
// script's env or shell says so with a status. last is its last line on stderr.
func IsBusy(p Process, last string) bool {
	return EndingOf(p).Code == cannotExecute && strings.Contains(last, "Text file busy")
}

// Passes reports whether the reason for which p ended before it was of use passes: what
// it was to execute is busy, or it was stopped by a signal that a stop of the
// sidecar may follow. last is its last line on stderr. Only after Exited.
func Passes(p Process, last string) bool { return IsBusy(p, last) || EndingOf(p).IsStop() }

// Tries counts the failed starts of a command that was never of use, and decides when it
// is given up. It belongs to one goroutine.
type Tries struct {
	// Limit is the number of failures before the command is given up.
	Limit int

	failed int
	since  time.Time // of the first transient failure
}

// Bears reports whether a failure is a transient one, and such have not lasted for a
// minute: it does not count.
func (t *Tries) Bears(err error) bool {
	if !IsTransient(err) {
		t.since = time.Time{}
		return false
	}
	if t.since.IsZero() {
		t.since = time.Now()
	}
	return time.Since(t.since) < transientFor
}

// Failed counts a failure and reports whether the command is to be given up: after more
// than Limit failures that count.
func (t *Tries) Failed(err error) (giveUp bool) {
	if t.Bears(err) {
		return false
	}
	t.failed++
	return t.failed > t.Limit
}

// Reset forgets the failures.
func (t *Tries) Reset() { *t = Tries{Limit: t.Limit} }
