package report

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// RedisOptions are what a [Redis] needs.
type RedisOptions struct {
	Store *redis.Store
	Link  *link.Link
	// MaxAttempts is how many deliveries of a record may be lost to crashes.
	MaxAttempts int
	// RetryAfter is the pause after a given attempt, from 1.
	RetryAfter func(attempt int) time.Duration
	// Run is the run to report for, if that is not the current one.
	Run string
}

// Redis is where outcomes go, as a [Store].
type Redis struct {
	*link.Link
	o     RedisOptions
	calls []redis.Report // empty; the last batch's memory
	drops drops
}

// NewRedis makes a store.
func NewRedis(o RedisOptions) *Redis { return &Redis{Link: o.Link, o: o} }

// RedisUnavailable is the type of a failure that is Redis' and not the task's
// (the Python adapter's word for it): it is tried again without limit.
const RedisUnavailable = "RedisUnavailable"

// isolateFor is how long a record that must run alone waits for a sidecar that is
// idle, before it runs beside others. Each of them looks once a second.
const isolateFor = 10 * time.Second

// Report is [Store].
func (r *Redis) Report(ctx context.Context, route Route, batch []task.Outcome) ([]Verdict, error) {
	run := r.o.Run
	if run == "" {
		var err error
		if run, err = r.Lease.Current(ctx); err != nil {
			return nil, err
		}
	}
	r.Run = run
	verdicts := make([]Verdict, len(batch))
	// What belonged to a run that was given up is not ours to
	ours := make([]int, 0, len(batch))
	for i, o := range batch {
		if strings.HasPrefix(o.Task.Delivery, run+".") {
			ours = append(ours, i)
		} else {
			verdicts[i] = Stale
		}
	}
	if len(ours) == 0 {
		return verdicts, nil
	}
	if err := r.Open(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsent, err)
	}
	var err error
	set := func(n int, v Verdict) { verdicts[ours[n]] = v }
	switch route {
	case Release:
		err = r.release(ctx, batch, ours, set)
	case Delay:
		err = r.delay(ctx, batch, ours, set)
	default:
		err = r.end(ctx, batch, ours, set)
	}
	if err != nil {
		if redis.Unsent(err) {
			err = fmt.Errorf("%w: %w", ErrUnsent, err)
		}
		return nil, r.drops.count(err, batch)
	}
	r.drops = drops{}
	r.OK()
	return verdicts, nil
}

func (r *Redis) end(ctx context.Context, batch []task.Outcome, ours []int, set func(int, Verdict)) error {
	calls := slices.Grow(r.calls, len(ours))[:len(ours)]
	defer func() { clear(calls); r.calls = calls[:0] }() // let go of the records
	for n, i := range ours {
		o := &batch[i]
		calls[n] = redis.Report{
			Delivery: o.Task.Delivery, TaskID: o.Task.Info.TaskID, GroupID: o.Task.Info.GroupID,
			CreatedAt: o.Task.Info.CreatedAt, SessionID: o.Task.Info.SessionID, RecordSize: o.Task.Size(),
			Success: o.Kind == task.Succeeded, Timestamp: o.EndedAt, Value: o.Value,
		}
		if o.Kind != task.Succeeded {
			calls[n].ErrorMessage, calls[n].ErrorJSON = o.Message, o.MessageJSON
		}
		if o.Task.Counted || o.Task.Attempt > 1 || o.Kind == task.Dead {
			calls[n].RecordSHA = shaOf(&o.Task)
		}
		if o.Kind == task.Dead {
			calls[n].Dead = &redis.DeadLetter{
				Reason: o.Reason, Message: o.Message, Stderr: o.Stderr,
				Attempts: o.Task.Attempt, At: o.EndedAt,
			}
		}
	}
	got, err := r.o.Store.Report(ctx, r.Run, calls)
	if err == nil && r.o.Run == "" && !slices.ContainsFunc(got, func(v redis.Verdict) bool { return v != redis.Stale }) {
		// A server that knows nothing of the run, nor of any of these: it may be
		// another one than that of the lease. Nothing was done.
		return fmt.Errorf("%w: report: %w", ErrUnsent, redis.ErrGone)
	}
	for n, v := range got {
		if v == redis.Stale && r.o.Run != "" {
			v = redis.Late // a spool's run is over, in whatever way
		}
		set(n, Verdict(v))
	}
	return err
}

// shaOf is the name of a record's attempts.
func shaOf(t *task.Task) string {
	if t.IsCut() {
		return redis.ShaOfRecord // it ends as a dead letter: no worker has been given it
	}
	return redis.RecordSHA(t.Record)
}

func (r *Redis) release(ctx context.Context, batch []task.Outcome, ours []int, set func(int, Verdict)) error {
	calls := make([]redis.Release, len(ours))
	for n, i := range ours {
		o := &batch[i]
		calls[n] = redis.Release{
			Delivery: o.Task.Delivery, Seq: o.Task.Seq, Lost: o.Kind == task.Lost, Unread: o.Unread, Shared: o.Shared, Whole: o.Whole,
			MaxAttempts: r.o.MaxAttempts, Record: o.Task.Record,
		}
	}
	got, err := r.o.Store.Release(ctx, r.Run, calls)
	for n, v := range got {
		switch {
		case v.Late:
			set(n, Late)
		case v.Exhausted:
			set(n, Exhausted)
		case v.Counted:
			batch[ours[n]].Kind = task.Lost // and the log tells so
			set(n, Returned)
		default:
			set(n, Returned)
		}
	}
	return err
}

func (r *Redis) delay(ctx context.Context, batch []task.Outcome, ours []int, set func(int, Verdict)) error {
	calls := make([]redis.Delay, len(ours))
	for n, i := range ours {
		o := &batch[i]
		calls[n] = redis.Delay{Delivery: o.Task.Delivery, After: r.o.RetryAfter(o.Task.Attempt), Count: o.Reason != RedisUnavailable, Record: o.Task.Record}
		if o.Isolate {
			calls[n].After, calls[n].Count, calls[n].Isolate = isolateFor, false, true
		}
	}
	got, err := r.o.Store.Delay(ctx, r.Run, calls)
	for n, ok := range got {
		if ok {
			set(n, Delayed)
		} else {
			set(n, Late)
		}
	}
	return err
}
