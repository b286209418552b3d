// Package lease keeps the run of this sidecar registered in Redis and reaps runs that died.
// It registers a new run if other sidecars have reaped this one while it was unreachable.
package lease

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// ErrGone is the error of a Store for a run that is not a member any more: other sidecars
// have its records.
var ErrGone = errors.New("this run was given up for dead")

// ErrOutdated is the error of a Store if other sidecars write to Redis in a format that this
// sidecar does not know. The sidecar must not write any more.
var ErrOutdated = errors.New("outdated")

const (
	// tickInterval is the interval at which the lease is renewed, absent runs are detected
	// and delayed records are promoted. A lease of 6 s survives five lost ticks.
	tickInterval = time.Second
	// callTimeout bounds each call, so that one slow call cannot use up the lease.
	callTimeout = time.Second
)

// Store is the part of Redis that the lease uses. *Redis implements it.
type Store interface {
	// Register makes a run a member.
	Register(ctx context.Context, run string) error
	// Renew renews the lease and does nothing else.
	Renew(ctx context.Context, run string) error
	// Tick renews the lease and does the chores of one second. It returns the runs that
	// the caller has to reap.
	Tick(ctx context.Context, run string) (dead []string, err error)
	// Reap ends another run and requeues its records.
	Reap(ctx context.Context, run, dead string) error
	// Leave ends the run and requeues the records that it still has in flight.
	Leave(ctx context.Context, run string) error
	// Recover waits after an error until a retry makes sense.
	Recover(ctx context.Context, err error) error
}

// Lease owns the current run id.
type Lease struct {
	Store Store
	Log   *slog.Logger
	// NewRun returns a run id that was never used before.
	NewRun func() string
	// OnRegistered, if set, is called with every run that has been registered.
	OnRegistered func(run string)
	// OnFenced is called with a run that is not a member any more, before the next run
	// begins. It must end all tasks of the run before it returns.
	OnFenced func(run string)

	mu      sync.Mutex
	run     string        // empty while no run is registered
	refused error         // set when this sidecar is outdated: there will be no run any more
	changed chan struct{} // closed when run or cleared changes
	// renewSoon holds a token for a renewal at once: an operation was refused because the
	// run is gone, or the description of the run has changed.
	renewSoon    chan struct{}
	doubts       int       // operations that were refused because the run is gone
	cleared      int       // of these, those before a renewal that found the run a member
	lastConflict time.Time // the last such renewal

	attempted string // the last run that was or may have been registered
}

// Init prepares a Lease whose exported fields are set.
func (l *Lease) Init() *Lease {
	l.changed = make(chan struct{})
	l.renewSoon = make(chan struct{}, 1)
	return l
}

// Current waits until a run is registered and returns its id. The error is that of ctx, or
// says that this sidecar is outdated.
func (l *Lease) Current(ctx context.Context) (string, error) {
	for {
		l.mu.Lock()
		run, refused, changed := l.run, l.refused, l.changed
		l.mu.Unlock()
		if refused != nil {
			return "", refused
		}
		if run != "" {
			return run, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// RunID returns the id of the current run; "" while none is registered.
func (l *Lease) RunID() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.run
}

// set sets the current run.
func (l *Lease) set(run string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.run, l.cleared = run, l.doubts
	l.wakeLocked()
}

// wakeLocked wakes the goroutines that wait for changed.
func (l *Lease) wakeLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// RenewNow requests a renewal at once, which publishes a changed description of the run. It
// does not wait. While no run is registered, the registration publishes the description.
func (l *Lease) RenewNow() {
	select {
	case l.renewSoon <- struct{}{}:
	default:
	}
}

// Run registers a run and renews its lease until soft ends. Leave ends the run. Run returns an
// error only if Redis refuses the sidecar permanently.
func (l *Lease) Run(soft context.Context) error {
	err := l.register(soft)
	if err == nil {
		err = l.renewLoop(soft)
	}
	if errors.Is(err, ErrOutdated) {
		l.abandon(err)
	}
	return err
}

// abandon ends the tasks of the run and leaves the run as it is in Redis: this sidecar does not
// know the format of the keys, so it must neither report nor leave. The lease expires, and the
// sidecars that know the format take over the records.
func (l *Lease) abandon(err error) {
	l.mu.Lock()
	run := l.run
	l.run, l.refused = "", err
	l.wakeLocked()
	l.mu.Unlock()
	l.attempted = ""
	if run != "" {
		l.OnFenced(run)
	}
}

// register registers a new run and retries until ctx ends. After a stop the run may be a
// member nevertheless; Leave ends it.
func (l *Lease) register(ctx context.Context) error {
	run := l.NewRun()
	err := l.retry(ctx, func(ctx context.Context) error {
		l.attempted = run
		return l.Store.Register(ctx, run)
	})
	if err == nil && ctx.Err() == nil {
		l.Log.Debug("run registered", "run", run)
		if l.OnRegistered != nil {
			l.OnRegistered(run)
		}
		l.set(run)
	}
	return err
}

// retry calls op until it succeeds or ctx ends (then it returns nil).
func (l *Lease) retry(ctx context.Context, op func(context.Context) error) error {
	for ctx.Err() == nil {
		err := bounded(ctx, op)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return nil
		}
		if err := l.Store.Recover(ctx, err); err != nil {
			return err
		}
	}
	return nil
}

// bounded calls op with callTimeout.
func bounded(ctx context.Context, op func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return op(ctx)
}

// renewLoop ticks and renews until soft ends. It registers a new run if the run is gone.
func (l *Lease) renewLoop(soft context.Context) error {
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	renew := false // renew at once instead of waiting for a tick
	for {
		if !renew {
			select {
			case <-soft.Done():
				return nil
			case <-l.renewSoon:
				renew = true
			case <-ticker.C:
			}
		}
		run, _ := l.Current(soft)
		if soft.Err() != nil {
			return nil
		}
		var err error
		if renew {
			err = l.asMember(soft, run, func(ctx context.Context) error { return l.Store.Renew(ctx, run) })
		} else {
			err = l.tickOnce(soft, run)
		}
		renew = false
		if err == nil || soft.Err() != nil {
			continue
		}
		if errors.Is(err, ErrGone) {
			err = l.reregister(soft, run)
		} else {
			err = l.Store.Recover(soft, err)
		}
		if err != nil {
			return err
		}
		// An outage may have let every lease expire. Absence counts from the moment at
		// which the first sidecar is back, so the lease is renewed before anything else;
		// the other sidecars then have a whole second to do the same.
		renew = true
		ticker.Reset(tickInterval)
	}
}

// reregister fences a run that is gone and registers a new one.
func (l *Lease) reregister(soft context.Context, run string) error {
	l.Log.Warn("lease lost: the tasks of this sidecar start over elsewhere", "run", run)
	l.set("")
	l.OnFenced(run)
	return l.register(soft)
}

// tickOnce does the chores of one second and reaps the dead runs.
func (l *Lease) tickOnce(soft context.Context, run string) error {
	var dead []string
	err := l.asMember(soft, run, func(ctx context.Context) (err error) {
		dead, err = l.Store.Tick(ctx, run)
		return err
	})
	if err != nil {
		return err
	}
	for _, other := range dead {
		l.Log.Warn("taking over the records of a lost sidecar", "run", other)
		if err := l.Store.Reap(soft, run, other); err != nil {
			return err
		}
	}
	return nil
}
