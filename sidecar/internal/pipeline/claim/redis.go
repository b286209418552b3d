package claim

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// RedisOptions configures a [Redis].
type RedisOptions struct {
	Store *redis.Store
	// NewLink returns a new link: one for the loop and one for each record that is loaded.
	NewLink func() *link.Link
	// PollInterval is the interval of claims while Redis refuses to block.
	PollInterval time.Duration
	// MaxAttempts is the maximum number of attempts of a record.
	MaxAttempts int
	// Paused reports whether nothing may be claimed for a run.
	Paused func(run string) bool
	// OnArrival is called when a record is in the inbox.
	OnArrival func()
	// Parked counts the records outside of the queue that may be claimed.
	Parked *link.Parked
	// CanIsolate reports whether a record that must run alone could start now.
	CanIsolate func() bool
	// LongWait is true during a blocking wait that is longer than a stop may take; a stop
	// has to end it. Nil disables such waits.
	LongWait *atomic.Bool
}

// Redis is the [Source] for one kind of worker.
type Redis struct {
	*link.Link
	o             RedisOptions
	lastCollect   time.Time
	blockTimeout  blockTimeout
	connectionCut bool // the last wait ended with its connection
}

// NewRedis returns a Redis with the given options.
func NewRedis(o RedisOptions) *Redis {
	return &Redis{Link: o.NewLink(), o: o, blockTimeout: blockTimeout{long: o.LongWait}}
}

const (
	// shortWait is the duration of a blocking wait. It is the maximum delay of a stop if
	// Redis does not allow to unblock a client.
	shortWait = time.Second
	// longWait is the duration of a wait of an idle sidecar whose waits can be ended. It
	// halves the wakeups of thousands of idle processes. It is not longer because a dead
	// connection is found only when the wait ends.
	longWait = 2 * time.Second
	// emptyWaitsBeforeLong is the number of waits in a row without a record after which
	// waits are long.
	emptyWaitsBeforeLong = 2
)

// blockTimeout computes the duration of blocking waits.
type blockTimeout struct {
	emptyWaits int          // waits in a row without a record
	long       *atomic.Bool // see RedisOptions.LongWait
}

// start returns the duration of the wait that begins now. endable reports whether a stop can
// end it, hasParked whether parked records may be claimed.
func (p *blockTimeout) start(endable bool, hasParked func() bool) time.Duration {
	if p.long == nil || !endable || p.emptyWaits < emptyWaitsBeforeLong {
		return shortWait
	}
	p.long.Store(true) // before hasParked: a record that is parked later ends the wait
	if hasParked() {
		p.long.Store(false)
		return shortWait
	}
	return longWait
}

// finish records the end of a wait. empty reports that it brought no record.
func (p *blockTimeout) finish(empty bool) {
	if p.long != nil {
		p.long.Store(false)
	}
	if p.emptyWaits++; !empty {
		p.emptyWaits = 0
	}
}

// Claim implements [Source].
func (c *Redis) Claim(ctx context.Context, nonce string, limit int) ([]task.Task, error) {
	if err := c.ensureRun(ctx); err != nil {
		return nil, err
	}
	if c.o.Paused(c.Run) {
		return nil, nil
	}
	if err := c.collect(ctx, limit); err != nil {
		return nil, err
	}
	switch took, err := c.takeIsolated(ctx, nonce, redis.KindDemand{}); {
	case err != nil:
		return nil, err
	case took:
		limit = 1
	}
	got, err := c.o.Store.Claim(ctx, c.Run, nonce, limit)
	if err != nil {
		return nil, err
	}
	c.OK()
	return c.tasks(got), nil
}

// ensureRun waits for a registered run before a claim and opens the link.
func (c *Redis) ensureRun(ctx context.Context) error {
	run, err := c.Lease.Current(ctx)
	if err != nil {
		return err
	}
	c.Run = run
	return c.Open()
}

// hasParked reports whether parked records may be claimed.
func (c *Redis) hasParked() bool { return c.o.Parked.Any() }

// takeIsolated moves a record that must run alone into the inbox for the claim that follows,
// if this sidecar is idle.
func (c *Redis) takeIsolated(ctx context.Context, nonce string, d redis.KindDemand) (bool, error) {
	if c.o.Parked.Isolated.Load() == 0 || !c.o.CanIsolate() {
		return false, nil
	}
	return c.o.Store.TakeIsolated(ctx, c.Run, nonce, d)
}

// tasks converts claimed records to tasks.
func (c *Redis) tasks(got []redis.Claimed) []task.Task {
	now := time.Now()
	ts := make([]task.Task, len(got))
	for i, g := range got {
		ts[i] = task.Task{
			Delivery: g.Delivery, Seq: g.Seq, Record: g.Record, Length: g.Length, Kind: g.Kind,
			Attempt: g.Losses + 1, Counted: g.Counted, Isolation: isolationOf(g, c.o.MaxAttempts), ClaimedAt: now,
		}
	}
	return ts
}

// isolationOf returns the isolation of a record: none before the last attempt and if the
// first attempt is the last one.
func isolationOf(g redis.Claimed, maxAttempts int) task.Isolation {
	switch {
	case g.Losses == 0 || g.Losses < maxAttempts-1:
		return task.IsolateNone
	case g.LostWithRun:
		return task.IsolateRun
	default:
		return task.IsolateProcess
	}
}

// Wait implements [Source].
func (c *Redis) Wait(ctx context.Context) (bool, error) {
	run, err := c.Lease.Current(ctx)
	if err != nil {
		return false, err
	}
	if err := c.Open(); err != nil {
		return false, err
	}
	if run != c.Run {
		return true, nil // the inbox of the run before is gone; the new run claims first
	}
	came, err := c.o.Store.Wait(ctx, c.Run, c.blockTimeout.start(c.o.Store.CanUnblock(), c.hasParked))
	c.blockTimeout.finish(!came && err == nil)
	cutBefore := c.connectionCut
	c.connectionCut = isConnectionCut(err)
	switch {
	case c.connectionCut && !cutBefore:
		// Redis closes the connection instead of sending a record that exceeds its
		// client-output-buffer-limit, after it has moved the record into the inbox. If
		// Redis is down, the claim fails.
		c.o.OnArrival()
		return true, nil
	case err == nil:
		c.OK()
		if came {
			c.o.OnArrival()
		}
		return came || c.hasParked(), nil
	case redis.Classify(err) == redis.ClassTransient && redis.Answered(err):
		// Redis refuses to block (out of memory, unknown command, CLIENT UNBLOCK): the
		// loop polls.
		backoff.Sleep(ctx, max(c.o.PollInterval, c.Pause.Next()))
		return true, nil
	default:
		return false, err
	}
}
