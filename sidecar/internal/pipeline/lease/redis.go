package lease

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// RedisOptions configures a [Redis].
type RedisOptions struct {
	Store *redis.Store
	// Last leaves a run if the connections of Store are closed already.
	Last *redis.Store
	Link *link.Link
	Log  *slog.Logger
	// MaxAttempts is the maximum number of attempts of a record.
	MaxAttempts int
	// InFlight is compared with the deliveries of the run in Redis.
	InFlight *InFlightSet
	// Parked is set by each tick.
	Parked *link.Parked
	// Describe returns the description of the run for the registry, and its entry in
	// Graflow's set of workers.
	Describe func(run string) (text []byte, label string)
	// Trace begins the span of a task; it may return nil.
	Trace func(*task.Task) task.Span
	// OnTick is called with each tick: whether this run or all runs are paused, and the
	// commands for this run.
	OnTick func(own, all bool, commands []fleet.Command)
	// OnRegistered is called for a run that has just been registered, before anything
	// can be claimed for it.
	OnRegistered func(run string)
	// DeadLetter ends a record that was lost too often with other sidecars.
	DeadLetter func(task.Outcome)
	// DeadTrimmed, if set, is called with the numbers of dead letters that were deleted:
	// those above the number that is kept, and those of the age.
	DeadTrimmed func(many, old int)
	// CheckServer, if set, checks the settings of the server after a registration. It must
	// not block for long.
	CheckServer func(ctx context.Context)
}

// Redis is the [Store] that keeps the lease in Redis.
type Redis struct {
	*link.Link
	o          RedisOptions
	reconciled time.Time
	ticks      int
	runs       []string // former runs and the current one, the latest last
	pausedOwn  bool     // this run is paused, as of the last tick
}

// NewRedis returns a Redis with the given options.
func NewRedis(o RedisOptions) *Redis { return &Redis{Link: o.Link, o: o} }

// reconcileInterval is the interval at which the deliveries of the run in Redis are compared
// with those in flight here. A failover that restores reported deliveries looks like a new
// connection, and a producer waits 30 s.
const reconcileInterval = 5 * time.Second

// maxFormerRuns is the number of former runs that a registration names to Redis. A database
// that comes back (SWAPDB) may have one of them as a member.
const maxFormerRuns = 8

// convert converts redis.ErrGone to ErrGone, and adds ErrOutdated to a *redis.FormatError.
func convert(err error) error {
	if errors.Is(err, redis.ErrGone) {
		return ErrGone
	}
	if _, ok := errors.AsType[*redis.FormatError](err); ok {
		return outdated{err}
	}
	return err
}

// outdated is a *redis.FormatError that is also ErrOutdated, with the text of the former.
type outdated struct{ error }

func (e outdated) Unwrap() []error { return []error{ErrOutdated, e.error} }

// note records the success of an operation and converts its error.
func (l *Redis) note(err error) error {
	if err == nil {
		l.OK()
	}
	return convert(err)
}

// call makes one operation, unless Redis is known to be unreachable.
func (l *Redis) call(ctx context.Context, run string, op func(context.Context, string) error) error {
	if err := l.Open(); err != nil {
		return err
	}
	return l.note(op(ctx, run))
}

// Register implements [Store]. It also publishes the description of the run.
func (l *Redis) Register(ctx context.Context, run string) error {
	err := l.call(ctx, run, func(ctx context.Context, run string) error {
		if !slices.Contains(l.runs, run) {
			l.runs = append(l.runs[max(0, len(l.runs)-maxFormerRuns):], run)
		}
		if err := l.o.Store.Register(ctx, run, l.runs...); err != nil {
			return err
		}
		return l.checkPause(ctx, run)
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

// checkPause reads whether the run is paused before it can claim: a pause also stops sidecars
// that start. The pause of a fenced run applies to its successor, since the user has paused
// the sidecar and not a run id.
func (l *Redis) checkPause(ctx context.Context, run string) error {
	if l.pausedOwn {
		if err := l.o.Store.Pause(ctx, run, "the run before it, which was given up for dead"); err != nil {
			return err
		}
	}
	own, all, err := l.o.Store.Paused(ctx, run)
	if err == nil {
		l.onTick(own, all, nil)
		l.o.OnRegistered(run)
	}
	return err
}

// onTick remembers whether the run is paused and calls OnTick.
func (l *Redis) onTick(own, all bool, commands []fleet.Command) {
	l.pausedOwn = own
	l.o.OnTick(own, all, commands)
}

// describeEvery is the number of ticks after which the description of the run is published
// again. The registry keeps it for the 6 s of a lease.
const describeEvery = 2

// Renew implements [Store]. It also publishes the description of the run.
func (l *Redis) Renew(ctx context.Context, run string) error {
	text, label := l.o.Describe(run)
	return l.call(ctx, run, func(ctx context.Context, run string) error { return l.o.Store.RenewAs(ctx, run, text, label) })
}

// Tick implements [Store].
func (l *Redis) Tick(ctx context.Context, run string) ([]string, error) {
	if err := l.Open(); err != nil {
		return nil, err
	}
	var text []byte
	var label string
	if l.ticks++; l.ticks%describeEvery == 0 {
		text, label = l.o.Describe(run)
	}
	res, err := l.o.Store.Tick(ctx, run, text, label)
	if err != nil {
		return nil, convert(err)
	}
	l.o.Parked.Unrouted.Store(int64(res.Unrouted))
	l.o.Parked.Isolated.Store(int64(res.Isolated))
	l.OK()
	l.logFormat(res)
	l.onTick(res.Paused, res.AllPaused, res.Commands)
	for _, dead := range res.Unfinished {
		if err := l.Reap(ctx, run, dead); err != nil {
			return nil, err
		}
	}
	if time.Since(l.reconciled) >= reconcileInterval {
		if res.InFlight > 0 { // otherwise there is nothing that could be unknown here
			deliveries, maxSeq := l.o.InFlight.Deliveries(run)
			if _, err := l.o.Store.Reconcile(ctx, run, maxSeq, deliveries); err != nil {
				return nil, convert(err)
			}
		}
		l.reconciled = time.Now()
	}
	if res.TrimDead { // last: what it costs holds up no record of another run
		if err := l.trimDead(ctx); err != nil {
			return nil, err
		}
	}
	return res.Dead, nil
}

// trimTime is the time that a tick spends on deleting dead letters. It is a small part of a
// lease, and enough for more of them than sidecars can write in a second.
const trimTime = 200 * time.Millisecond

// trimDead deletes dead letters in small steps until none is left to delete or the time is
// over; the next tick then goes on. The log has one line for all of them.
func (l *Redis) trimDead(ctx context.Context) error {
	many, old := 0, 0
	began := time.Now()
	for {
		got, err := l.o.Store.TrimDead(ctx)
		many, old = many+got.Many, old+got.Old
		if err == nil && got.More && time.Since(began) < trimTime {
			continue
		}
		if many+old > 0 {
			l.o.Log.Warn("old dead letters deleted", "above_number", many, "above_age", old)
			if l.o.DeadTrimmed != nil {
				l.o.DeadTrimmed(many, old)
			}
		}
		return convert(err)
	}
}

// logFormat logs a change of the format of the keys.
func (l *Redis) logFormat(res redis.TickResult) {
	switch {
	case res.FormatReplaced:
		l.o.Log.Warn("format in redis was unreadable: written again", "format", res.FormatRaised)
	case res.FormatRaised > 0:
		l.o.Log.Info("format in redis raised: older versions are refused", "format", res.FormatRaised)
	}
}

// Reap implements [Store].
func (l *Redis) Reap(ctx context.Context, run, dead string) error {
	res, err := l.o.Store.Reap(ctx, run, dead, l.o.MaxAttempts)
	for _, a := range res.Exhausted {
		t := task.Task{Delivery: a.Delivery, Seq: a.Seq, Record: a.Record, Length: a.Length, Attempt: a.Losses}
		if t.IsCut() {
			t.Info = task.DecodeHead(t.Record)
		} else {
			t.Info, _ = task.Decode(t.Record) // the fields that can be read
		}
		t.Span = l.o.Trace(&t)
		l.o.InFlight.Adopt(t)
		l.o.DeadLetter(task.Outcome{
			Task:       t,
			Conclusion: task.Dead, Reason: "attempts", EndedAt: time.Now(),
			Message: "task was lost too often, the last time with the sidecar that ran it",
		})
	}
	return l.note(err)
}

// Leave implements [Store]. It uses the connection of the lease as long as that is open:
// another server behind the same address would report success without ending the run. It
// leaves the former runs after it: a database that came back just before may have one of them,
// and there is no tick any more that would requeue its records. A repeated call goes on with
// those that are left: on a slow link one call has no time for all of them.
func (l *Redis) Leave(ctx context.Context, run string) error {
	return l.call(ctx, run, func(ctx context.Context, _ string) error {
		for len(l.runs) > 0 {
			last := len(l.runs) - 1
			if err := l.leave(ctx, l.runs[last]); err != nil {
				return err
			}
			l.runs = l.runs[:last]
		}
		return nil
	})
}

// leave leaves one run.
func (l *Redis) leave(ctx context.Context, run string) error {
	err := l.o.Store.Leave(ctx, run)
	if redis.Classify(err) == redis.ClassCanceled {
		err = l.o.Last.Leave(ctx, run)
	}
	return err
}
