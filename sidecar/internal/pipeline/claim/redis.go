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

// RedisOptions are what a [Redis] needs.
type RedisOptions struct {
	Store *redis.Store
	// NewLink makes a link: one for the loop and one for each record that is loaded.
	NewLink func() *link.Link
	// PollInterval is between claims where Redis refuses to block.
	PollInterval time.Duration
	// MaxAttempts is how many lost deliveries a record may have had.
	MaxAttempts int
	// Silent reports whether nothing may be claimed for a run.
	Silent func(run string) bool
	// Arrived is called when a record is in the inbox.
	Arrived func()
	// Aside counts the records that no arrival tells of.
	Aside *link.Aside
	// CanIsolate reports whether a record that must run alone would run now.
	CanIsolate func() bool
	// LongWait is set while a wait is under way that lasts longer than a stop may take:
	// its end has to be asked for. Nil allows no such wait.
	LongWait *atomic.Bool
}

// Redis is the queue as a [Source].
type Redis struct {
	*link.Link
	o         RedisOptions
	collected time.Time // see collect
	patience  patience
	cut       bool // the last wait ended with its connection
}

// NewRedis makes a source.
func NewRedis(o RedisOptions) *Redis {
	return &Redis{Link: o.NewLink(), o: o, patience: patience{long: o.LongWait}}
}

const (
	// waitFor is how long one blocking wait lasts: a stop outlasts it by that much
	// at most where Redis cannot be told to end it.
	waitFor = time.Second
	// longWait is how long it lasts when nothing comes and Redis can: each wait
	// that ends wakes the process, and there are thousands of idle ones. It is no
	// longer than that since a connection that died in silence is found only when
	// the wait is over.
	longWait = 2 * time.Second
	// dryWaits is how many waits in a row must have brought nothing by then.
	dryWaits = 2
)

// patience is how long the next wait lasts.
type patience struct {
	dry  int          // waits in a row that brought nothing
	long *atomic.Bool // a long wait is under way, see RedisOptions.LongWait; nil where none may be
}

// begin says how long. endable: a stop can end it.
func (p *patience) begin(endable bool, aside func() bool) time.Duration {
	if p.long == nil || !endable || p.dry < dryWaits {
		return waitFor
	}
	p.long.Store(true) // before the look: what comes after it ends the wait
	if aside() {
		p.long.Store(false)
		return waitFor
	}
	return longWait
}

// end notes what a wait has brought.
func (p *patience) end(nothing bool) {
	if p.long != nil {
		p.long.Store(false)
	}
	if p.dry++; !nothing {
		p.dry = 0
	}
}

// Claim is [Source].
func (c *Redis) Claim(ctx context.Context, nonce string, limit int) ([]task.Task, error) {
	if err := c.begin(ctx); err != nil {
		return nil, err
	}
	if c.o.Silent(c.Run) {
		return nil, nil
	}
	if err := c.collect(ctx, limit); err != nil {
		return nil, err
	}
	switch took, err := c.takeIsolated(ctx, nonce, redis.Routes{}); {
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

// begin comes before every claim: it is made for a run that is registered.
func (c *Redis) begin(ctx context.Context) error {
	run, err := c.Lease.Current(ctx)
	if err != nil {
		return err
	}
	c.Run = run
	return c.Open()
}

// setAside: there are records of which no arrival tells.
func (c *Redis) setAside() bool { return c.o.Aside.Any() }

// takeIsolated brings a record that must run alone into the inbox, from where the
// claim that follows takes it, if this sidecar is idle.
func (c *Redis) takeIsolated(ctx context.Context, nonce string, r redis.Routes) (bool, error) {
	if c.o.Aside.Isolated.Load() == 0 || !c.o.CanIsolate() {
		return false, nil
	}
	return c.o.Store.TakeIsolated(ctx, c.Run, nonce, r)
}

func (c *Redis) tasks(got []redis.Claimed) []task.Task {
	now := time.Now()
	ts := make([]task.Task, len(got))
	for i, g := range got {
		ts[i] = task.Task{
			Delivery: g.Delivery, Seq: g.Seq, Record: g.Record, Length: g.Length, Route: g.Kind, // the same numbers
			Attempt: g.Losses + 1, Counted: g.Counted, Lone: lone(g, c.o.MaxAttempts), ClaimedAt: now,
		}
	}
	return ts
}

// lone is how alone a record has to be: at its last attempt, if there were
// others.
func lone(g redis.Claimed, maxAttempts int) task.Lone {
	switch {
	case g.Losses == 0 || g.Losses < maxAttempts-1:
		return task.Together
	case g.LoneRun:
		return task.AloneInRun
	default:
		return task.AloneInChild
	}
}

// Wait is [Source].
func (c *Redis) Wait(ctx context.Context) (bool, error) {
	run, err := c.Lease.Current(ctx)
	if err != nil {
		return false, err
	}
	if err := c.Open(); err != nil {
		return false, err
	}
	if run != c.Run {
		return true, nil // a new run begins with a claim: this inbox is not ours any more
	}
	came, err := c.o.Store.Wait(ctx, c.Run, c.patience.begin(c.o.Store.CanUnblock(), c.setAside))
	c.patience.end(!came && err == nil)
	cut := c.cut
	c.cut = isCut(err)
	switch {
	case c.cut && !cut:
		// Redis closes the connection instead of sending a record that exceeds its
		// client-output-buffer-limit, and has moved it into the inbox then. If Redis is
		// gone, the claim finds out.
		c.o.Arrived()
		return true, nil
	case err == nil:
		c.OK()
		if came {
			c.o.Arrived()
		}
		return came || c.setAside(), nil
	case redis.Classify(err) == redis.ClassTransient && redis.Answered(err):
		// Blocking is refused (out of memory, no such command, unblocked by
		// hand): ask again in a while by claiming.
		backoff.Sleep(ctx, max(c.o.PollInterval, c.Pause.Next()))
		return true, nil
	default:
		return false, err
	}
}
