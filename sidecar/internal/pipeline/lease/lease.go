// Package lease keeps this sidecar's run registered in Redis, takes over the
// records of runs that died, and starts a new run when ours was given up for
// dead while we could not be heard.
package lease

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// ErrGone is what a Store returns for a run that is no longer a member: its
// records are somebody else's now.
var ErrGone = errors.New("this run was given up for dead")

const (
	// tick is how often the lease is lengthened, absent runs are looked for and
	// delayed records promoted: a lease of 6 s stands five lost ones.
	tick = time.Second
	// callTimeout bounds each call, so that a slow one cannot eat the lease.
	callTimeout = time.Second
)

// Store is the lease's part of Redis.
type Store interface {
	Register(ctx context.Context, run string) error
	// Renew makes the lease anew, at once and with nothing else.
	Renew(ctx context.Context, run string) error
	// Tick renews it too, does a second's chores and names the runs that have
	// been without a lease for so long that the caller is to reap them.
	Tick(ctx context.Context, run string) (dead []string, err error)
	// Reap ends another run and returns its records to the queue.
	Reap(ctx context.Context, run, dead string) error
	// Leave ends our own run; what it still holds returns to the queue.
	Leave(ctx context.Context, run string) error
	// Recover waits until it makes sense to try again after an error.
	Recover(ctx context.Context, err error) error
}

// Lease owns the current run id.
type Lease struct {
	Store Store
	Log   *slog.Logger
	// NewRun makes a run id that was never used before.
	NewRun func() string
	// Registered, if set, is called with every run that has been registered.
	Registered func(run string)
	// Lost is called when a run turns out to be gone, before the next one
	// begins. When it returns nothing of the old run may be running any more.
	Lost func(run string)

	mu      sync.Mutex
	run     string        // empty while none is registered
	changed chan struct{} // closed when run or cleared changes
	// soon holds a token for a renewal at once: an operation was told that we are
	// gone, or what the run says of itself has changed.
	soon    chan struct{}
	doubts  int       // how often an operation was told that we are gone
	cleared int       // of those, how many came before a renewal that found the run a member
	strange time.Time // when that was found last

	tried string // the run that was last registered, or was to be
}

// Init prepares a Lease whose exported fields are set.
func (l *Lease) Init() *Lease {
	l.changed = make(chan struct{})
	l.soon = make(chan struct{}, 1)
	return l
}

// Current waits until a run is registered and returns its id.
func (l *Lease) Current(ctx context.Context) (string, error) {
	for {
		l.mu.Lock()
		run, changed := l.run, l.changed
		l.mu.Unlock()
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

// Now is the run's id; "" while none is registered.
func (l *Lease) Now() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.run
}

func (l *Lease) set(run string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.run, l.cleared = run, l.doubts
	l.wakeLocked()
}

func (l *Lease) wakeLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// Announce has the run renewed at once, since what it says of itself has changed. It
// does not wait for that; while no run is registered it does nothing more than the
// registration, which says it, too.
func (l *Lease) Announce() {
	select {
	case l.soon <- struct{}{}:
	default:
	}
}

// Run registers a run and keeps it until soft ends; Leave ends it. It returns
// an error only when Redis refuses us for good.
func (l *Lease) Run(soft context.Context) error {
	if err := l.register(soft); err != nil {
		return err
	}
	return l.keep(soft)
}

// register makes a run a member, trying until ctx ends. A stop in the middle
// of it leaves a run that may be a member: Leave sees to that.
func (l *Lease) register(ctx context.Context) error {
	run := l.NewRun()
	err := l.retry(ctx, func(ctx context.Context) error {
		l.tried = run
		return l.Store.Register(ctx, run)
	})
	if err == nil && ctx.Err() == nil {
		l.Log.Debug("run registered", "run", run)
		if l.Registered != nil {
			l.Registered(run)
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

func bounded(ctx context.Context, op func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return op(ctx)
}

func (l *Lease) keep(soft context.Context) error {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	renew := false // at once, and nothing else
	for {
		if !renew {
			select {
			case <-soft.Done():
				return nil
			case <-l.soon:
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
			err = l.member(soft, run, func(ctx context.Context) error { return l.Store.Renew(ctx, run) })
		} else {
			err = l.chores(soft, run)
		}
		renew = false
		if err == nil || soft.Err() != nil {
			continue
		}
		if errors.Is(err, ErrGone) {
			err = l.regain(soft, run)
		} else {
			err = l.Store.Recover(soft, err)
		}
		if err != nil {
			return err
		}
		// An outage may have run every lease out. Our absence counts from the
		// moment that the first one is back, so our lease stands again before
		// anything else is done; and whom we miss has a whole second for the same.
		renew = true
		ticker.Reset(tick)
	}
}

// regain lets go of everything that belonged to a run that is gone and
// registers a new one.
func (l *Lease) regain(soft context.Context, run string) error {
	l.Log.Warn("lease lost: the tasks of this sidecar start over elsewhere", "run", run)
	l.set("")
	l.Lost(run)
	return l.register(soft)
}

// chores does what each second brings and reaps whoever is dead.
func (l *Lease) chores(soft context.Context, run string) error {
	var dead []string
	err := l.member(soft, run, func(ctx context.Context) (err error) {
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
