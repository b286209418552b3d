package app

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// claims is the claim stage's Redis.
type claims struct {
	link
	st          *redis.Store
	held        *ledger
	poll        time.Duration
	maxAttempts int
	holds       *holds
	brought     func()        // a record is in the inbox
	unrouted    *atomic.Int64 // records that others have no worker for, as of the last tick
	isolated    *atomic.Int64 // records that must run alone, likewise
	canIsolate  func() bool   // one of them would run alone now
	collected   time.Time     // see collect
	patience    patience
	newLink     func() link // for a load
	cut         bool        // the last wait ended with its connection
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
	long *atomic.Bool // a long wait is under way, see App.told; nil where none may be
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

func (c *claims) Claim(ctx context.Context, nonce string, limit int) ([]task.Task, error) {
	if err := c.begin(ctx); err != nil {
		return nil, err
	}
	if c.holds.isSilent(c.run) {
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
	got, err := c.st.Claim(ctx, c.run, nonce, limit)
	if err != nil {
		return nil, err
	}
	c.ok()
	return c.tasks(got), nil
}

// begin comes before every claim: it is made for a run that is registered.
func (c *claims) begin(ctx context.Context) error {
	run, err := c.lease.Current(ctx)
	if err != nil {
		return err
	}
	c.run = run
	return c.open()
}

// setAside: there are records of which no arrival tells.
func (c *claims) setAside() bool { return c.unrouted.Load()+c.isolated.Load() > 0 }

// takeIsolated brings a record that must run alone into the inbox, from where the
// claim that follows takes it, if this sidecar is idle.
func (c *claims) takeIsolated(ctx context.Context, nonce string, r redis.Routes) (bool, error) {
	if c.isolated.Load() == 0 || !c.canIsolate() {
		return false, nil
	}
	return c.st.TakeIsolated(ctx, c.run, nonce, r)
}

func (c *claims) tasks(got []redis.Claimed) []task.Task {
	now := time.Now()
	ts := make([]task.Task, len(got))
	for i, g := range got {
		ts[i] = task.Task{
			Delivery: g.Delivery, Seq: g.Seq, Record: g.Record, Length: g.Length, Route: g.Kind, // the same numbers
			Attempt: g.Losses + 1, Counted: g.Counted, Lone: lone(g, c.maxAttempts), ClaimedAt: now,
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

func (c *claims) Wait(ctx context.Context) (bool, error) {
	run, err := c.lease.Current(ctx)
	if err != nil {
		return false, err
	}
	if err := c.open(); err != nil {
		return false, err
	}
	if run != c.run {
		return true, nil // a new run begins with a claim: this inbox is not ours any more
	}
	came, err := c.st.Wait(ctx, c.run, c.patience.begin(c.st.CanUnblock(), c.setAside))
	c.patience.end(!came && err == nil)
	cut := c.cut
	c.cut = isCut(err)
	switch {
	case c.cut && !cut:
		// Redis closes the connection instead of sending a record that exceeds its
		// client-output-buffer-limit, and has moved it into the inbox then. If Redis is
		// gone, the claim finds out.
		c.brought()
		return true, nil
	case err == nil:
		c.ok()
		if came {
			c.brought()
		}
		return came || c.setAside(), nil
	case redis.Classify(err) == redis.ClassTransient && redis.Answered(err):
		// Blocking is refused (out of memory, no such command, unblocked by
		// hand): ask again in a while by claiming.
		backoff.Sleep(ctx, max(c.poll, c.pause.Next()))
		return true, nil
	default:
		return false, err
	}
}
