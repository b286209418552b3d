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

// RedisOptions configures a [Redis].
type RedisOptions struct {
	Store *redis.Store
	Link  *link.Link
	// MaxAttempts is the maximum number of deliveries of a record that crashes may end.
	MaxAttempts int
	// RetryAfter returns the delay after an attempt; attempts count from 1.
	RetryAfter func(attempt int) time.Duration
	// Run is the run to report for; empty means the current run of the lease.
	Run string
}

// Redis is the [Store] that reports outcomes to Redis.
type Redis struct {
	*link.Link
	o     RedisOptions
	calls []redis.Report // empty; its memory is reused
	drops drops
}

// NewRedis returns a Redis with the given options.
func NewRedis(o RedisOptions) *Redis { return &Redis{Link: o.Link, o: o} }

// RedisUnavailable is the error type that the Python adapter sends for a failure of Redis. A
// task that fails with it is retried without limit.
const RedisUnavailable = "RedisUnavailable"

// isolationWait is the time that a record that must run alone waits for an idle sidecar.
// Afterwards it runs beside other tasks. Each sidecar checks once a second.
const isolationWait = 10 * time.Second

// Report implements [Store].
func (r *Redis) Report(ctx context.Context, disposition Disposition, batch []task.Outcome) ([]Verdict, error) {
	run := r.o.Run
	if run == "" {
		var err error
		if run, err = r.Lease.Current(ctx); err != nil {
			return nil, err
		}
	}
	r.Run = run
	verdicts := make([]Verdict, len(batch))
	// The deliveries of a run that was fenced belong to other sidecars.
	current := make([]int, 0, len(batch))
	for i, o := range batch {
		if strings.HasPrefix(o.Task.Delivery, run+".") {
			current = append(current, i)
		} else {
			verdicts[i] = Stale
		}
	}
	if len(current) == 0 {
		return verdicts, nil
	}
	if err := r.Open(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsent, err)
	}
	var err error
	set := func(n int, v Verdict) { verdicts[current[n]] = v }
	switch disposition {
	case Requeue:
		err = r.requeue(ctx, batch, current, set)
	case Defer:
		err = r.deferBatch(ctx, batch, current, set)
	default:
		err = r.ack(ctx, batch, current, set)
	}
	if err != nil {
		if redis.Unsent(err) {
			err = fmt.Errorf("%w: %w", ErrUnsent, err)
		}
		return nil, r.drops.classify(err, batch)
	}
	r.drops = drops{}
	r.OK()
	return verdicts, nil
}

// ack ends records as completed or as dead letters.
func (r *Redis) ack(ctx context.Context, batch []task.Outcome, current []int, set func(int, Verdict)) error {
	calls := slices.Grow(r.calls, len(current))[:len(current)]
	defer func() { clear(calls); r.calls = calls[:0] }() // the records can be freed
	for n, i := range current {
		o := &batch[i]
		calls[n] = redis.Report{
			Delivery: o.Task.Delivery, TaskID: o.Task.Info.TaskID, GroupID: o.Task.Info.GroupID,
			CreatedAt: o.Task.Info.CreatedAt, SessionID: o.Task.Info.SessionID, RecordSize: o.Task.Size(),
			Success: o.Conclusion == task.Succeeded, Timestamp: o.EndedAt, Value: o.Value,
		}
		if o.Conclusion != task.Succeeded {
			calls[n].ErrorMessage, calls[n].ErrorJSON = o.Message, o.MessageJSON
		}
		if o.Task.Counted || o.Task.Attempt > 1 || o.Conclusion == task.Dead {
			calls[n].RecordSHA = shaOf(&o.Task)
		}
		if o.Conclusion == task.Dead {
			calls[n].Dead = &redis.DeadLetter{
				Reason: o.Reason, Message: o.Message, Stderr: o.Stderr,
				Attempts: o.Task.Attempt, At: o.EndedAt,
			}
		}
	}
	got, err := r.o.Store.Report(ctx, r.Run, calls)
	if err == nil && r.o.Run == "" && !slices.ContainsFunc(got, func(v redis.Verdict) bool { return v != redis.Stale }) {
		// The server knows neither the run nor any of the deliveries: it may be another
		// server than that of the lease. Nothing was changed.
		return fmt.Errorf("%w: report: %w", ErrUnsent, redis.ErrGone)
	}
	for n, v := range got {
		if v == redis.Stale && r.o.Run != "" {
			v = redis.NotInFlight // the run of a spool file is never a member
		}
		set(n, Verdict(v))
	}
	return err
}

// shaOf returns the hash under which Redis counts the attempts of a record.
func shaOf(t *task.Task) string {
	if t.IsCut() {
		return redis.ShaOfRecord // a cut record always ends as a dead letter
	}
	return redis.RecordSHA(t.Record)
}

// requeue returns records to the head of the queue.
func (r *Redis) requeue(ctx context.Context, batch []task.Outcome, current []int, set func(int, Verdict)) error {
	calls := make([]redis.Release, len(current))
	for n, i := range current {
		o := &batch[i]
		calls[n] = redis.Release{
			Delivery: o.Task.Delivery, Seq: o.Task.Seq, Lost: o.Conclusion == task.Lost, Unread: o.Unread, Shared: o.Shared, Whole: o.Whole,
			MaxAttempts: r.o.MaxAttempts, Record: o.Task.Record,
		}
	}
	got, err := r.o.Store.Release(ctx, r.Run, calls)
	for n, v := range got {
		switch {
		case v.NotInFlight:
			set(n, NotInFlight)
		case v.Exhausted:
			set(n, Exhausted)
		case v.Counted:
			batch[current[n]].Conclusion = task.Lost // for the log
			set(n, Returned)
		default:
			set(n, Returned)
		}
	}
	return err
}

// deferBatch returns records to the queue after a delay.
func (r *Redis) deferBatch(ctx context.Context, batch []task.Outcome, current []int, set func(int, Verdict)) error {
	calls := make([]redis.Delay, len(current))
	for n, i := range current {
		o := &batch[i]
		calls[n] = redis.Delay{Delivery: o.Task.Delivery, After: r.o.RetryAfter(o.Task.Attempt), Count: o.Reason != RedisUnavailable, Record: o.Task.Record}
		if o.Isolate {
			calls[n].After, calls[n].Count, calls[n].Isolate = isolationWait, false, true
		}
	}
	got, err := r.o.Store.Delay(ctx, r.Run, calls)
	for n, ok := range got {
		if ok {
			set(n, Delayed)
		} else {
			set(n, NotInFlight)
		}
	}
	return err
}
