// Package report brings every outcome to Redis, in batches, and keeps what it
// cannot deliver until Redis is back.
package report

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// maxBatch is the most outcomes in one call: enough to amortise the round
// trip, little enough to keep Redis' other clients waiting for no more than a
// millisecond or two.
const maxBatch = 256

// maxBytes is the most that one call carries, unless that is one outcome: results
// of a megabyte each are a few a call, and the next ones are not held up behind
// hundreds of megabytes.
const maxBytes = 4 << 20

// Verdict is what became of a reported outcome. The values that begin a
// record's end are §4's: completed, completed-no-group, group-over, duplicate,
// dead.
type Verdict string

const (
	// Applied: a call was repeated and its first try had been applied; what it
	// decided was lost with the reply.
	Applied Verdict = "applied"
	// Returned: the record is back in the queue.
	Returned Verdict = "returned"
	// Delayed: the record waits for its next try.
	Delayed Verdict = "delayed"
	// Late: the delivery is not in flight, and its run is still a member: of a
	// repeated call the first try was applied. A Store's answer, never a settled one.
	Late Verdict = "late"
	// Stale: the delivery was not ours any more, and nothing was changed: another
	// sidecar has taken the record over. What became of the task here does not count.
	Stale Verdict = "stale"
	// Exhausted: a lost delivery was the last one allowed; the record is still
	// ours and must be ended as dead.
	Exhausted Verdict = "exhausted"
	// BadGroup: the group's keys are not what Graflow makes them; the record
	// is still ours and must be ended as dead.
	BadGroup Verdict = "bad-group"
)

// Store is where outcomes go.
type Store interface {
	// Report ends the deliveries of a batch whose outcomes are all of one
	// Route; the verdicts stand in the batch's order. An error means that
	// nothing is known: the same call is repeated then. One that wraps ErrUnsent
	// means that nothing was done, and one that is a [Rejection] that nothing was
	// done and never will be, because of some outcome of the batch.
	Report(ctx context.Context, route Route, batch []task.Outcome) ([]Verdict, error)
	// Recover waits until it makes sense to try again after an error; it
	// returns an error where it never will.
	Recover(ctx context.Context, err error) error
}

// ErrUnsent says that a call has not reached Redis.
var ErrUnsent = errors.New("not sent")

// Rejection is an error that says that Redis never takes what a call carries.
type Rejection interface {
	error
	// Of says why in words, for what is called a result, say.
	Of(what string) string
}

// Route is one of the ways out of the pipeline.
type Route int

const (
	End     Route = iota // completed or dead
	Release              // back to the head of the queue
	Delay                // back to the queue after a while
	routes
)

func routeOf(o *task.Outcome) Route {
	switch o.Kind {
	case task.Returned, task.Lost:
		if o.Isolate {
			return Delay
		}
		return Release
	case task.Retry:
		return Delay
	default:
		return End
	}
}

// routeOfAll is the one route of a batch; same is false where there are several.
func routeOfAll(batch []task.Outcome) (route Route, same bool) {
	route = routeOf(&batch[0])
	for i := range batch {
		if routeOf(&batch[i]) != route {
			return route, false
		}
	}
	return route, true
}

// Loop is the report stage.
type Loop struct {
	Store Store
	Box   *Box
	Log   *slog.Logger
	// Settled is called with all outcomes of a batch that Redis has answered for
	// good, and its verdicts; once for each outcome. It must not keep the slices.
	Settled func(batch []task.Outcome, verdicts []Verdict)

	mu      sync.Mutex
	failing time.Time // when calls began to fail; zero while they succeed
}

// FailingSince is when calls of the Store began to fail; zero while they succeed. The
// health monitor cannot tell: where Redis refuses reports and takes other commands, it
// hears of both. It may be called concurrently.
func (l *Loop) FailingSince() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failing
}

// call is one call of the Store.
func (l *Loop) call(ctx context.Context, route Route, batch []task.Outcome) ([]Verdict, error) {
	verdicts, err := l.Store.Report(ctx, route, batch)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil:
		l.failing = time.Time{}
	case l.failing.IsZero():
		l.failing = time.Now()
	}
	return verdicts, err
}

// Run reports until soft ends and the box is empty, or hard ends. Outcomes may
// arrive until Run returns and after it; see Box.Left. It returns an error only
// when Redis refuses us for good.
func (l *Loop) Run(soft, hard context.Context) error {
	for {
		batch := l.Box.take()
		if len(batch) > 0 {
			again, err := l.deliver(hard, batch)
			l.Box.settle(batch, again)
			if err != nil {
				return err
			}
			if hard.Err() != nil {
				return nil
			}
			continue
		}
		l.Box.settle(nil, nil)
		select {
		case <-l.Box.wake:
			continue
		default:
		}
		if soft.Err() != nil || hard.Err() != nil {
			return nil
		}
		select {
		case <-l.Box.wake:
		case <-soft.Done():
		}
	}
}

// deliver reports one batch, route by route, and returns what has to be
// reported again, changed or as it was.
func (l *Loop) deliver(hard context.Context, batch []task.Outcome) (again []task.Outcome, err error) {
	if route, same := routeOfAll(batch); same {
		return l.insist(hard, route, batch, false)
	}
	var byRoute [routes][]task.Outcome
	for _, o := range batch {
		r := routeOf(&o)
		byRoute[r] = append(byRoute[r], o)
	}
	for route, some := range byRoute {
		if len(some) == 0 {
			continue
		}
		if err != nil || hard.Err() != nil {
			again = append(again, some...)
			continue
		}
		var left []task.Outcome
		left, err = l.insist(hard, Route(route), some, false)
		again = append(again, left...)
	}
	return again, err
}

// judge settles a batch by its verdicts and returns the outcomes that end as
// dead letters instead.
func (l *Loop) judge(batch []task.Outcome, verdicts []Verdict, repeated bool) (again []task.Outcome) {
	settled := 0
	for i := range batch {
		v := verdicts[i]
		if v == Late {
			v = Stale
			if repeated {
				v = Applied
			}
		}
		o := &batch[i]
		switch v {
		case Exhausted:
			o.Kind, o.Reason = task.Dead, "attempts"
			o.Message = "task was lost with its worker too often, the last time because " + o.Message
			again = append(again, *o)
		case BadGroup:
			o.Kind, o.Reason = task.Dead, "bad-group"
			o.Message = "the group's keys in Redis are not Graflow's: " + o.Message
			again = append(again, *o)
		default:
			l.log(o, v)
			if settled < i {
				batch[settled] = *o
			}
			verdicts[settled] = v
			settled++
		}
	}
	if settled > 0 {
		l.Settled(batch[:settled], verdicts[:settled])
	}
	return again
}

func (l *Loop) log(o *task.Outcome, v Verdict) {
	level, message := line(o)
	outcome := o.Kind.String()
	if v == Stale {
		level, message = staleLine(o)
		outcome = "stale"
	}
	if !l.Log.Enabled(context.Background(), level) {
		return
	}
	attrs := append(o.Task.LogAttrs(), "outcome", outcome, "verdict", string(v))
	if o.PID != 0 {
		attrs = append(attrs, "slot", o.Slot, "pid", o.PID)
	}
	if !o.StartedAt.IsZero() {
		attrs = append(attrs, "duration", o.EndedAt.Sub(o.StartedAt).Round(time.Microsecond).String())
	}
	if o.Message != "" {
		attrs = append(attrs, "error", o.Message)
	}
	if o.Reason != "" {
		attrs = append(attrs, "reason", o.Reason)
	}
	if o.Stack != "" {
		attrs = append(attrs, "stack", o.Stack)
	}
	//nolint:sloglint // the message is one of the constants of line
	l.Log.Log(context.Background(), level, message, attrs...)
}

// staleLine is that of an outcome that does not count; what only went back to the
// queue is none that is missed.
func staleLine(o *task.Outcome) (slog.Level, string) {
	if routeOf(o) == End {
		return slog.LevelWarn, "outcome dropped: another sidecar has taken the record over"
	}
	return slog.LevelDebug, "returned record was taken over before"
}

func line(o *task.Outcome) (slog.Level, string) {
	if o.Isolate {
		return slog.LevelInfo, "task that must run alone is set aside"
	}
	switch o.Kind {
	case task.Succeeded:
		return slog.LevelDebug, "task succeeded"
	case task.Failed:
		return slog.LevelWarn, "task failed"
	case task.Dead:
		return slog.LevelError, "record put into the dead letters"
	case task.Lost:
		return slog.LevelWarn, "task lost with its worker, handed back"
	case task.Retry:
		return slog.LevelWarn, "task will be tried again"
	default:
		return slog.LevelDebug, "task handed back"
	}
}
