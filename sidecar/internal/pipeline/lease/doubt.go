package lease

import (
	"context"
	"time"
)

// conflictLogInterval is the time without a conflict of two servers after which the next
// conflict is logged.
const conflictLogInterval = time.Minute

// Gone reports that an operation was refused because the run is gone, and waits for a
// decision. Either a new run is registered, or a renewal that began after this call has found
// the run to be a member: then stillMember is true, and the operation has reached another
// server than the renewal. The error is that of ctx.
func (l *Lease) Gone(ctx context.Context, run string) (stillMember bool, err error) {
	doubt := l.doubt(run)
	for {
		l.mu.Lock()
		same, cleared, changed := l.run == run, l.cleared >= doubt, l.changed
		l.mu.Unlock()
		switch {
		case !same:
			_, err := l.Current(ctx)
			return false, err
		case cleared:
			return true, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// doubt counts a refused operation and requests a renewal. It returns the count. It ignores a
// run that is not the current one.
func (l *Lease) doubt(run string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.run == run {
		l.doubts++
		l.RenewNow()
	}
	return l.doubts
}

// doubtCount returns the number of operations that were refused because the run is gone.
func (l *Lease) doubtCount() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.doubts
}

// clearDoubts records that the current run is a member. It releases the callers of Gone
// that waited before the call that found so; a claim loop once waited there forever.
// doubts is the doubtCount before that call.
func (l *Lease) clearDoubts(run string, doubts int) {
	l.mu.Lock()
	if doubts <= l.cleared {
		l.mu.Unlock()
		return
	}
	l.cleared = doubts
	l.wakeLocked()
	now := time.Now()
	say := now.Sub(l.lastConflict) >= conflictLogInterval
	l.lastConflict = now
	l.mu.Unlock()
	if say {
		l.Log.Warn("two redis servers answer at one address", "run", run)
	}
}

// asMember makes a call that succeeds only for a member.
func (l *Lease) asMember(soft context.Context, run string, op func(context.Context) error) error {
	doubts := l.doubtCount()
	err := bounded(soft, op)
	if err == nil {
		l.clearDoubts(run, doubts)
	}
	return err
}
