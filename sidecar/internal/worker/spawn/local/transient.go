package local

import (
	"errors"
	"strings"
	"syscall"
	"time"
)

// transientFor is how long a start may fail for transient reasons.
const transientFor = time.Minute

// ErrPasses is in the chain of a [StartError] with a transient reason that no system
// call reports: see [Passes].
var ErrPasses = errors.New("the reason passes")

// IsTransient reports whether a start failed for a transient reason: the file is being
// written, by a deployment that copies over it, or there is no process, memory or
// descriptor left at the moment.
func IsTransient(err error) bool {
	for _, passes := range []error{syscall.ETXTBSY, syscall.EAGAIN, syscall.ENOMEM, syscall.EMFILE, syscall.ENFILE, ErrPasses} {
		if errors.Is(err, passes) {
			return true
		}
	}
	return false
}

// cannotExecute is the exit status of env and of shells for a program that they found
// and could not execute.
const cannotExecute = 126

// IsBusy reports whether p ended because the program it was to execute is being
// written: env or a shell reports that with an exit status. last is its last line on
// stderr.
func IsBusy(p Process, last string) bool {
	return EndingOf(p).Code == cannotExecute && strings.Contains(last, "Text file busy")
}

// Passes reports whether p ended before it was useful for a transient reason: its
// program is busy, or it was stopped by a signal that a stop of the sidecar may follow.
// last is its last line on stderr. It may be called after Exited.
func Passes(p Process, last string) bool { return IsBusy(p, last) || EndingOf(p).IsStop() }

// Tries counts the failed starts of a command that has never been useful, and decides
// when to give up. It is used by one goroutine.
type Tries struct {
	// Limit is the number of failures before the command is given up.
	Limit int

	failed int
	since  time.Time // the time of the first transient failure
}

// Bears reports whether a failure does not count: it is transient, and transient
// failures have not lasted for a minute.
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

// Failed counts a failure and reports whether to give up the command: after more than
// Limit failures that count.
func (t *Tries) Failed(err error) (giveUp bool) {
	if t.Bears(err) {
		return false
	}
	t.failed++
	return t.failed > t.Limit
}

// Reset forgets the failures.
func (t *Tries) Reset() { *t = Tries{Limit: t.Limit} }
