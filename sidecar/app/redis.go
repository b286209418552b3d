package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/health"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/lease"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// RefusedError says that Redis will not have us whatever we do: wrong
// password, missing permission, wrong database, keys of another kind.
type RefusedError struct{ Err error }

func (e *RefusedError) Error() string {
	return "redis refuses this sidecar: " + e.Err.Error() + " (check the address, the credentials, the permissions and the key prefix)"
}

// Unwrap gives the reply.
func (e *RefusedError) Unwrap() error { return e.Err }

// errClosed: the connections closed before the loops that use them had ended.
var errClosed = errors.New("internal error: the connections to redis closed too early")

// errAway: the connection is known to be dead, so nothing was said.
var errAway = errors.New("redis is away")

// link is one loop's way to Redis: it keeps the health monitor and the lease
// informed and decides what an error means. One goroutine uses it at a time.
type link struct {
	lease *lease.Lease
	mon   *health.Monitor
	pause *backoff.Backoff
	run   string // of the last operation
	// reconnect, if set, has all operations but those of the lease dial anew.
	reconnect func(ctx context.Context)
}

// newLink makes one. Its pauses are between attempts at an operation that Redis
// answers with a refusal that passes (OOM, READONLY, LOADING …), and after a
// connection has come back without working.
func (a *App) newLink() link {
	return link{lease: a.lease, mon: a.mon, pause: backoff.New(redis.RetryPause(a.cfg.Redis)), reconnect: a.reconnect}
}

// open comes before every operation. One that is bound to fail is not tried:
// the health monitor finds out when Redis is back, and nobody else asks.
func (k *link) open() error {
	if k.mon.Away() {
		return errAway
	}
	return nil
}

// ok notes an operation's success.
func (k *link) ok() {
	k.pause.Reset()
	k.mon.OK()
}

// Recover waits until it makes sense to try again.
func (k *link) Recover(ctx context.Context, err error) error {
	if errors.Is(err, errAway) {
		_ = k.mon.WaitReached(ctx) // ctx's end is the caller's to see
		return nil
	}
	switch redis.Classify(err) {
	case redis.ClassFatal:
		return &RefusedError{err}
	case redis.ClassCanceled:
		if ctx.Err() == nil {
			// Our own connections are closed, and nobody opens them again.
			return errClosed
		}
		return nil
	case redis.ClassGone:
		if held, _ := k.lease.Gone(ctx, k.run); held { // ctx's end is the caller's to see
			k.elsewhere(ctx)
		}
		return nil
	default:
		k.mon.Failed(err)
		if k.mon.WaitReached(ctx) == nil {
			k.pause.Sleep(ctx)
		}
		return nil
	}
}

// reconnectTimeout bounds the end of the connections to a server that is not ours.
const reconnectTimeout = time.Second

// elsewhere comes after an operation that has met another server than the lease does: a
// proxy or a name leads to two, and a connection stays with the one that it has
// reached. The next operations have new ones, after a pause; those of others, too, since
// what workers ask would get answers of that server.
func (k *link) elsewhere(ctx context.Context) {
	if k.reconnect != nil {
		bounded, cancel := context.WithTimeout(ctx, reconnectTimeout)
		k.reconnect(bounded)
		cancel()
	}
	k.pause.Sleep(ctx)
}

// reports is the report stage's Redis.
type reports struct {
	link
	st          *redis.Store
	maxAttempts int
	retryAfter  func(attempt int) time.Duration
	fixed       string         // the run to report for, if it is not the current one
	calls       []redis.Report // empty; the last batch's memory
	drops       drops
}

func (r *reports) Report(ctx context.Context, route report.Route, batch []task.Outcome) ([]report.Verdict, error) {
	run := r.fixed
	if run == "" {
		var err error
		if run, err = r.lease.Current(ctx); err != nil {
			return nil, err
		}
	}
	r.run = run
	verdicts := make([]report.Verdict, len(batch))
	// What belonged to a run that was given up is not ours to report.
	ours := make([]int, 0, len(batch))
	for i, o := range batch {
		if strings.HasPrefix(o.Task.Delivery, run+".") {
			ours = append(ours, i)
		} else {
			verdicts[i] = report.Stale
		}
	}
	if len(ours) == 0 {
		return verdicts, nil
	}
	if err := r.open(); err != nil {
		return nil, fmt.Errorf("%w: %w", report.ErrUnsent, err)
	}
	var err error
	set := func(n int, v report.Verdict) { verdicts[ours[n]] = v }
	switch route {
	case report.Release:
		err = r.release(ctx, batch, ours, set)
	case report.Delay:
		err = r.delay(ctx, batch, ours, set)
	default:
		err = r.end(ctx, batch, ours, set)
	}
	if err != nil {
		if redis.Unsent(err) {
			err = fmt.Errorf("%w: %w", report.ErrUnsent, err)
		}
		return nil, r.drops.count(err, batch)
	}
	r.drops = drops{}
	r.ok()
	return verdicts, nil
}

func (r *reports) end(ctx context.Context, batch []task.Outcome, ours []int, set func(int, report.Verdict)) error {
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
	got, err := r.st.Report(ctx, r.run, calls)
	if err == nil && r.fixed == "" && !slices.ContainsFunc(got, func(v redis.Verdict) bool { return v != redis.Stale }) {
		// A server that knows nothing of the run, nor of any of these: it may be
		// another one than that of the lease. Nothing was done.
		return fmt.Errorf("%w: report: %w", report.ErrUnsent, redis.ErrGone)
	}
	for n, v := range got {
		if v == redis.Stale && r.fixed != "" {
			v = redis.Late // a spool's run is over, in whatever way
		}
		set(n, report.Verdict(v))
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

func (r *reports) release(ctx context.Context, batch []task.Outcome, ours []int, set func(int, report.Verdict)) error {
	calls := make([]redis.Release, len(ours))
	for n, i := range ours {
		o := &batch[i]
		calls[n] = redis.Release{
			Delivery: o.Task.Delivery, Seq: o.Task.Seq, Lost: o.Kind == task.Lost, Unread: o.Unread, Shared: o.Shared, Whole: o.Whole,
			MaxAttempts: r.maxAttempts, Record: o.Task.Record,
		}
	}
	got, err := r.st.Release(ctx, r.run, calls)
	for n, v := range got {
		switch {
		case v.Late:
			set(n, report.Late)
		case v.Exhausted:
			set(n, report.Exhausted)
		case v.Counted:
			batch[ours[n]].Kind = task.Lost // and the log tells so
			set(n, report.Returned)
		default:
			set(n, report.Returned)
		}
	}
	return err
}

func (r *reports) delay(ctx context.Context, batch []task.Outcome, ours []int, set func(int, report.Verdict)) error {
	calls := make([]redis.Delay, len(ours))
	for n, i := range ours {
		o := &batch[i]
		calls[n] = redis.Delay{Delivery: o.Task.Delivery, After: r.retryAfter(o.Task.Attempt), Count: o.Reason != redisUnavailable, Record: o.Task.Record}
		if o.Isolate {
			calls[n].After, calls[n].Count, calls[n].Isolate = isolateFor, false, true
		}
	}
	got, err := r.st.Delay(ctx, r.run, calls)
	for n, ok := range got {
		if ok {
			set(n, report.Delayed)
		} else {
			set(n, report.Late)
		}
	}
	return err
}
