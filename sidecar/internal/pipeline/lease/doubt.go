package lease

import (
	"context"
	"time"
)

// episode is how long after the last call that another server answered the next one
// is worth a line in the log.
const episode = time.Minute

// Gone tells that an operation for the run was refused because it is gone, and
// waits until that is settled. Either there is another run then, or a renewal that
// began after this call has found the run to be a member: held is true, and the
// operation has met another server than the renewal. The error is ctx's.
func (l *Lease) Gone(ctx context.Context, run string) (held bool, err error) {
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

// doubt notes that an operation was told so and has the lease renewed. The result
// is how often that has happened. One for a run that is over already is no doubt.
func (l *Lease) doubt(run string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.run == run {
		l.doubts++
		l.Announce()
	}
	return l.doubts
}

// asked is how often an operation was told that the run is gone.
func (l *Lease) asked() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.doubts
}

// clear notes that the run is a member for certain, and lets go on what waits in Gone
// since before the call that found so: a claim loop once waited there for ever.
// doubts is what asked returned before that call.
func (l *Lease) clear(run string, doubts int) {
	l.mu.Lock()
	if l.run != run || doubts <= l.cleared {
		l.mu.Unlock()
		return
	}
	l.cleared = doubts
	l.wakeLocked()
	now := time.Now()
	say := l.strange.IsZero() || now.Sub(l.strange) >= episode
	l.strange = now
	l.mu.Unlock()
	if say {
		l.Log.Warn("two redis servers answer at one address", "run", run)
	}
}

// member makes a call that succeeds only for a member.
func (l *Lease) member(soft context.Context, run string, op func(context.Context) error) error {
	doubts := l.asked()
	err := bounded(soft, op)
	if err == nil {
		l.clear(run, doubts)
	}
	return err
}
