package app

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/lease"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// leases is the lease's Redis.
type leases struct {
	link
	st          *redis.Store
	last        *redis.Store // that outlives st
	maxAttempts int
	box         *report.Box
	held        *ledger
	about       func(run string) (text []byte, label string)
	unrouted    *atomic.Int64 // set by each tick
	isolated    *atomic.Int64 // likewise
	reconciled  time.Time
	ticks       int
	runs        []string // those before and the present one, the latest last
	trace       func(*task.Task) task.Span
	told        func(own, all bool, orders []fleet.Order) // what people want of us
	holds       *holds
	pausedOwn   bool // this run, as last heard
	// checkServer, if set, looks at the settings of the server that a run has been
	// registered at. It must not fail for long.
	checkServer func(ctx context.Context)
}

// reconcileEvery is how often what Redis has under our name is compared with
// what we hold. A failover that brings back what we had reported cannot be told
// from a new connection, and a producer waits 30 s.
const reconcileEvery = 5 * time.Second

// keepRuns is how many runs before the present one are named to Redis when that is
// registered. A database that comes back (SWAPDB) may know one of them.
const keepRuns = 8

// gone gives the store's word for a run that is no member the lease's.
func gone(err error) error {
	if errors.Is(err, redis.ErrGone) {
		return lease.ErrGone
	}
	return err
}

func (l *leases) noting(err error) error {
	if err == nil {
		l.ok()
	}
	return gone(err)
}

// call is one operation, tried if Redis is not known to be away.
func (l *leases) call(ctx context.Context, run string, op func(context.Context, string) error) error {
	if err := l.open(); err != nil {
		return err
	}
	return l.noting(op(ctx, run))
}

// Register also enters the run in the registry, so that it is seen at once.
func (l *leases) Register(ctx context.Context, run string) error {
	err := l.call(ctx, run, func(ctx context.Context, run string) error {
		if !slices.Contains(l.runs, run) {
			l.runs = append(l.runs[max(0, len(l.runs)-keepRuns):], run)
		}
		if err := l.st.Register(ctx, run, l.runs...); err != nil {
			return err
		}
		return l.look(ctx, run)
	})
	if err != nil {
		return err
	}
	err = l.Renew(ctx, run)
	if l.checkServer != nil {
		l.checkServer(ctx)
	}
	return err
}

// look asks whether the run is paused, before anybody can claim for it: a pause
// is to stop what starts, too. One of this run that was given up for dead is one
// of its successor: whoever paused it knows nothing of ids.
func (l *leases) look(ctx context.Context, run string) error {
	if l.pausedOwn {
		if err := l.st.Pause(ctx, run, "the run before it, which was given up for dead"); err != nil {
			return err
		}
	}
	own, all, err := l.st.Paused(ctx, run)
	if err == nil {
		l.hear(own, all, nil)
		l.holds.silence(run)
	}
	return err
}

func (l *leases) hear(own, all bool, orders []fleet.Order) {
	l.pausedOwn = own
	l.told(own, all, orders)
}

// sayEvery is how many ticks lie between two of which each says what this sidecar
// is at, for the registry, where it stays for the 6 s of a lease.
const sayEvery = 2

// Renew also says that.
func (l *leases) Renew(ctx context.Context, run string) error {
	text, label := l.about(run)
	return l.call(ctx, run, func(ctx context.Context, run string) error { return l.st.RenewAs(ctx, run, text, label) })
}

func (l *leases) Tick(ctx context.Context, run string) ([]string, error) {
	if err := l.open(); err != nil {
		return nil, err
	}
	var text []byte
	var label string
	if l.ticks++; l.ticks%sayEvery == 0 {
		text, label = l.about(run)
	}
	res, err := l.st.Tick(ctx, run, text, label)
	if err != nil {
		return nil, gone(err)
	}
	l.unrouted.Store(int64(res.Unrouted))
	l.isolated.Store(int64(res.Isolated))
	l.ok()
	l.hear(res.Paused, res.AllPaused, res.Orders)
	for _, dead := range res.Unfinished {
		if err := l.Reap(ctx, run, dead); err != nil {
			return nil, err
		}
	}
	if time.Since(l.reconciled) >= reconcileEvery {
		held, seen := l.held.of(run)
		// An idle sidecar need not ask: nothing is the same as nothing.
		if len(held) > 0 || res.InFlight > 0 {
			if _, err := l.st.Reconcile(ctx, run, seen, held); err != nil {
				return nil, gone(err)
			}
		}
		l.reconciled = time.Now()
	}
	return res.Dead, nil
}

func (l *leases) Reap(ctx context.Context, run, dead string) error {
	res, err := l.st.Reap(ctx, run, dead, l.maxAttempts)
	for _, a := range res.Exhausted {
		t := task.Task{Delivery: a.Delivery, Seq: a.Seq, Record: a.Record, Length: a.Length, Attempt: a.Losses}
		if t.IsCut() {
			t.Info = task.DecodeHead(t.Record)
		} else {
			t.Info, _ = task.Decode(t.Record) // as far as it can be read
		}
		t.Span = l.trace(&t)
		l.held.adopt(t)
		l.box.Done(task.Outcome{
			Task: t,
			Kind: task.Dead, Reason: "attempts", EndedAt: time.Now(),
			Message: "task was lost too often, the last time with the sidecar that ran it",
		})
	}
	return l.noting(err)
}

// Leave speaks to the server that the lease is at, as long as that connection is not
// cut: at another one behind the same address nothing would be left, without a word.
func (l *leases) Leave(ctx context.Context, run string) error {
	return l.call(ctx, run, func(ctx context.Context, run string) error {
		err := l.st.Leave(ctx, run)
		if redis.Classify(err) == redis.ClassCanceled && ctx.Err() == nil {
			err = l.last.Leave(ctx, run)
		}
		return err
	})
}
