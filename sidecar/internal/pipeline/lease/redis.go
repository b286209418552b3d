package lease

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// RedisOptions are what a [Redis] needs.
type RedisOptions struct {
	Store *redis.Store
	// Last leaves a run where the connections of Store are closed already.
	Last *redis.Store
	Link *link.Link
	// MaxAttempts is how many lost deliveries a record may have had.
	MaxAttempts int
	// InFlight is compared with what Redis has under the run's name.
	InFlight *InFlight
	// Aside is set by each tick.
	Aside *link.Aside
	// About returns what the sidecar says of itself in the registry, and its entry in
	// Graflow's set of workers.
	About func(run string) (text []byte, label string)
	// Trace begins the span of a task; nil for none.
	Trace func(*task.Task) task.Span
	// OnTick is told what people want of this run: that it, or all, be paused, and commands.
	OnTick func(own, all bool, commands []fleet.Command)
	// OnRegistered is called for a run that has just been registered, before anything
	// can be claimed for it.
	OnRegistered func(run string)
	// DeadLetter takes a record that was lost too often with other sidecars.
	DeadLetter func(task.Outcome)
	// CheckServer, if set, looks at the settings of the server that a run has been
	// registered at. It must not fail for long.
	CheckServer func(ctx context.Context)
}

// Redis is the lease in Redis, as a [Store].
type Redis struct {
	*link.Link
	o          RedisOptions
	reconciled time.Time
	ticks      int
	runs       []string // those before and the present one, the latest last
	pausedOwn  bool     // this run, as last heard
}

// NewRedis makes a store.
func NewRedis(o RedisOptions) *Redis { return &Redis{Link: o.Link, o: o} }

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
		return ErrGone
	}
	return err
}

func (l *Redis) noting(err error) error {
	if err == nil {
		l.OK()
	}
	return gone(err)
}

// call is one operation, tried if Redis is not known to be away.
func (l *Redis) call(ctx context.Context, run string, op func(context.Context, string) error) error {
	if err := l.Open(); err != nil {
		return err
	}
	return l.noting(op(ctx, run))
}

// Register also enters the run in the registry, so that it is seen at once.
func (l *Redis) Register(ctx context.Context, run string) error {
	err := l.call(ctx, run, func(ctx context.Context, run string) error {
		if !slices.Contains(l.runs, run) {
			l.runs = append(l.runs[max(0, len(l.runs)-keepRuns):], run)
		}
		if err := l.o.Store.Register(ctx, run, l.runs...); err != nil {
			return err
		}
		return l.look(ctx, run)
	})
	if err != nil {
		return err
	}
	err = l.Renew(ctx, run)
	if l.o.CheckServer != nil {
		l.o.CheckServer(ctx)
	}
	return err
}

// look asks whether the run is paused, before anybody can claim for it: a pause
// is to stop what starts, too. One of this run that was given up for dead is one
// of its successor: whoever paused it knows nothing of ids.
func (l *Redis) look(ctx context.Context, run string) error {
	if l.pausedOwn {
		if err := l.o.Store.Pause(ctx, run, "the run before it, which was given up for dead"); err != nil {
			return err
		}
	}
	own, all, err := l.o.Store.Paused(ctx, run)
	if err == nil {
		l.hear(own, all, nil)
		l.o.OnRegistered(run)
	}
	return err
}

func (l *Redis) hear(own, all bool, commands []fleet.Command) {
	l.pausedOwn = own
	l.o.OnTick(own, all, commands)
}

// sayEvery is how many ticks lie between two of which each says what this sidecar
// is at, for the registry, where it stays for the 6 s of a lease.
const sayEvery = 2

// Renew also says that.
func (l *Redis) Renew(ctx context.Context, run string) error {
	text, label := l.o.About(run)
	return l.call(ctx, run, func(ctx context.Context, run string) error { return l.o.Store.RenewAs(ctx, run, text, label) })
}

// Tick is [Store].
func (l *Redis) Tick(ctx context.Context, run string) ([]string, error) {
	if err := l.Open(); err != nil {
		return nil, err
	}
	var text []byte
	var label string
	if l.ticks++; l.ticks%sayEvery == 0 {
		text, label = l.o.About(run)
	}
	res, err := l.o.Store.Tick(ctx, run, text, label)
	if err != nil {
		return nil, gone(err)
	}
	l.o.Aside.Unrouted.Store(int64(res.Unrouted))
	l.o.Aside.Isolated.Store(int64(res.Isolated))
	l.OK()
	l.hear(res.Paused, res.AllPaused, res.Orders)
	for _, dead := range res.Unfinished {
		if err := l.Reap(ctx, run, dead); err != nil {
			return nil, err
		}
	}
	if time.Since(l.reconciled) >= reconcileEvery {
		held, seen := l.o.InFlight.Of(run)
		// An idle sidecar need not ask: nothing is the same as nothing.
		if len(held) > 0 || res.InFlight > 0 {
			if _, err := l.o.Store.Reconcile(ctx, run, seen, held); err != nil {
				return nil, gone(err)
			}
		}
		l.reconciled = time.Now()
	}
	return res.Dead, nil
}

// Reap is [Store].
func (l *Redis) Reap(ctx context.Context, run, dead string) error {
	res, err := l.o.Store.Reap(ctx, run, dead, l.o.MaxAttempts)
	for _, a := range res.Exhausted {
		t := task.Task{Delivery: a.Delivery, Seq: a.Seq, Record: a.Record, Length: a.Length, Attempt: a.Losses}
		if t.IsCut() {
			t.Info = task.DecodeHead(t.Record)
		} else {
			t.Info, _ = task.Decode(t.Record) // as far as it can be read
		}
		t.Span = l.o.Trace(&t)
		l.o.InFlight.Adopt(t)
		l.o.DeadLetter(task.Outcome{
			Task: t,
			Kind: task.Dead, Reason: "attempts", EndedAt: time.Now(),
			Message: "task was lost too often, the last time with the sidecar that ran it",
		})
	}
	return l.noting(err)
}

// Leave speaks to the server that the lease is at, as long as that connection is not
// cut: at another one behind the same address nothing would be left, without a word.
func (l *Redis) Leave(ctx context.Context, run string) error {
	return l.call(ctx, run, func(ctx context.Context, run string) error {
		err := l.o.Store.Leave(ctx, run)
		if redis.Classify(err) == redis.ClassCanceled && ctx.Err() == nil {
			err = l.o.Last.Leave(ctx, run)
		}
		return err
	})
}
