// Package report is the last stage of the pipeline. It reports every outcome to Redis, in
// batches, and keeps outcomes while Redis is unreachable.
package report

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// maxBatch is the maximum number of outcomes in one call. It amortises the round trip and
// blocks Redis' other clients for a millisecond or two at most.
const maxBatch = 256

// maxBytes is the maximum number of bytes of one call, unless it carries one outcome. With
// results of a megabyte, a bound by number alone would let a batch of hundreds of megabytes
// delay the outcomes behind it.
const maxBytes = 4 << 20

// Verdict is the answer of Redis to a reported outcome. A record that ends has one of the
// verdicts of package redis: completed, completed-no-group, group-over, duplicate, dead.
type Verdict string

const (
	// Applied means that a repeated call had been applied by its first try, whose verdict
	// was lost with the reply.
	Applied Verdict = "applied"
	// Returned means that the record is in the queue again.
	Returned Verdict = "returned"
	// Delayed means that the record waits for its next attempt.
	Delayed Verdict = "delayed"
	// NotInFlight means that the delivery is not in flight while its run is a member. For a
	// repeated call the first try was applied; otherwise the outcome is stale. Only a Store
	// returns it: OnSettled receives Applied or Stale instead.
	NotInFlight Verdict = "not-in-flight"
	// Stale means that another sidecar has taken the record over. Nothing was changed, and
	// the outcome does not count.
	Stale Verdict = "stale"
	// Exhausted means that the lost delivery was the last one allowed. The record is still
	// in flight and must end as a dead letter.
	Exhausted Verdict = "exhausted"
	// BadGroup means that the keys of the group do not have Graflow's format. The record is
	// still in flight and must end as a dead letter.
	BadGroup Verdict = "bad-group"
)

// Store is the part of Redis that receives outcomes. *Redis implements it.
type Store interface {
	// Report ends the deliveries of a batch whose outcomes have one disposition. It returns
	// the verdicts in the order of the batch. After an error the result is unknown, and the
	// same call is repeated. An error that wraps ErrUnsent means that nothing was changed.
	// A [Rejection] means that nothing was changed and that the batch contains an outcome
	// that Redis never accepts.
	Report(ctx context.Context, disposition Disposition, batch []task.Outcome) ([]Verdict, error)
	// Recover waits after an error until a retry makes sense. It returns an error if no
	// retry can succeed.
	Recover(ctx context.Context, err error) error
}

// ErrUnsent is wrapped by the error of a call that has not reached Redis.
var ErrUnsent = errors.New("not sent")

// Rejection is the error of a call that contains data that Redis never accepts.
type Rejection interface {
	error
	// Explain returns the reason as a sentence about what, such as "result".
	Explain(what string) string
}

// Disposition is the way in which a delivery leaves the pipeline.
type Disposition int

const (
	// Ack ends the record: completed, or a dead letter.
	Ack Disposition = iota
	// Requeue returns the record to the head of the queue.
	Requeue
	// Defer returns the record to the queue after a delay.
	Defer

	dispositions // their number
)

// dispositionOf returns the disposition of an outcome.
func dispositionOf(o *task.Outcome) Disposition {
	switch o.Conclusion {
	case task.Returned, task.Lost:
		if o.Isolate {
			return Defer
		}
		return Requeue
	case task.Retry:
		return Defer
	default:
		return Ack
	}
}

// commonDisposition returns the disposition of a batch; same is false if there are several.
func commonDisposition(batch []task.Outcome) (d Disposition, same bool) {
	d = dispositionOf(&batch[0])
	for i := range batch {
		if dispositionOf(&batch[i]) != d {
			return d, false
		}
	}
	return d, true
}

// Loop is the report stage. It takes outcomes from the Buffer and reports them to the Store.
type Loop struct {
	Store  Store
	Buffer *Buffer
	Log    *slog.Logger
	// OnSettled is called with the outcomes that Redis has finally answered and with their
	// verdicts, once for each outcome. It must not retain the slices.
	OnSettled func(batch []task.Outcome, verdicts []Verdict)

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
func (l *Loop) call(ctx context.Context, d Disposition, batch []task.Outcome) ([]Verdict, error) {
	verdicts, err := l.Store.Report(ctx, d, batch)
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

// Run reports outcomes until soft has ended and the buffer is empty, or until hard ends.
// Outcomes that arrive after Run has returned stay in the buffer, see Buffer.Undelivered.
// It returns an error only if Redis refuses the sidecar permanently.
func (l *Loop) Run(soft, hard context.Context) error {
	for {
		batch := l.Buffer.next()
		if len(batch) > 0 {
			again, err := l.deliver(hard, batch)
			l.Buffer.ack(batch, again)
			if err != nil {
				return err
			}
			if hard.Err() != nil {
				return nil
			}
			continue
		}
		l.Buffer.ack(nil, nil)
		select {
		case <-l.Buffer.wake:
			continue
		default:
		}
		if soft.Err() != nil || hard.Err() != nil {
			return nil
		}
		select {
		case <-l.Buffer.wake:
		case <-soft.Done():
		}
	}
}

// deliver reports one batch, separately for each disposition. It returns the outcomes that
// have to be reported again.
func (l *Loop) deliver(hard context.Context, batch []task.Outcome) (again []task.Outcome, err error) {
	if d, same := commonDisposition(batch); same {
		return l.reportWithRetry(hard, d, batch, false)
	}
	var byDisposition [dispositions][]task.Outcome
	for _, o := range batch {
		d := dispositionOf(&o)
		byDisposition[d] = append(byDisposition[d], o)
	}
	for d, part := range byDisposition {
		if len(part) == 0 {
			continue
		}
		if err != nil || hard.Err() != nil {
			again = append(again, part...)
			continue
		}
		var rest []task.Outcome
		rest, err = l.reportWithRetry(hard, Disposition(d), part, false)
		again = append(again, rest...)
	}
	return again, err
}

// applyVerdicts settles the outcomes of a batch by their verdicts. It returns those that
// have to be reported again as dead letters.
func (l *Loop) applyVerdicts(batch []task.Outcome, verdicts []Verdict, repeated bool) (again []task.Outcome) {
	settled := 0
	for i := range batch {
		v := verdicts[i]
		if v == NotInFlight {
			v = Stale
			if repeated {
				v = Applied
			}
		}
		o := &batch[i]
		switch v {
		case Exhausted:
			o.Conclusion, o.Reason = task.Dead, "attempts"
			o.Message = "task was lost with its worker too often, the last time because " + o.Message
			again = append(again, *o)
		case BadGroup:
			o.Conclusion, o.Reason = task.Dead, "bad-group"
			o.Message = "the group's keys in Redis are not Graflow's: " + o.Message
			again = append(again, *o)
		default:
			l.log(o, v)
			batch[settled] = *o
			verdicts[settled] = v
			settled++
		}
	}
	if settled > 0 {
		l.OnSettled(batch[:settled], verdicts[:settled])
	}
	return again
}

// log logs a settled outcome.
func (l *Loop) log(o *task.Outcome, v Verdict) {
	level, message := logLine(o)
	outcome := o.Conclusion.String()
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
	//nolint:sloglint // the message is one of the constants of logLine
	l.Log.Log(context.Background(), level, message, attrs...)
}

// staleLine returns the level and the message for an outcome that does not count. An outcome
// that would have been requeued anyway is no loss.
func staleLine(o *task.Outcome) (slog.Level, string) {
	if dispositionOf(o) == Ack {
		return slog.LevelWarn, "outcome dropped: another sidecar has taken the record over"
	}
	return slog.LevelDebug, "returned record was taken over before"
}

// logLine returns the level and the message for an outcome.
func logLine(o *task.Outcome) (slog.Level, string) {
	if o.Isolate {
		return slog.LevelInfo, "task that must run alone is set aside"
	}
	switch o.Conclusion {
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
