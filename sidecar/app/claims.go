package app

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/store"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// claims is the claim stage's Redis.
type claims struct {
	link
	st          *store.Store
	held        *ledger
	poll        time.Duration
	maxAttempts int
	holds       *holds
	brought     func()        // a record is in the inbox
	unrouted    *atomic.Int64 // records that others have no worker for, as of the last tick
	collected   time.Time     // see collect
}

// waitFor is how long one blocking wait lasts: a stop outlasts it by that much
// at most where Redis cannot be told to end it.
const waitFor = time.Second

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

func (c *claims) tasks(got []store.Claimed) []task.Task {
	now := time.Now()
	ts := make([]task.Task, len(got))
	for i, g := range got {
		ts[i] = task.Task{
			Delivery: g.Delivery, Seq: g.Seq, Record: g.Record, Route: g.Kind, // the same numbers
			Attempt: g.Losses + 1, Lone: lone(g, c.maxAttempts), ClaimedAt: now,
		}
	}
	return ts
}

// lone is how alone a record has to be: at its last attempt, if there were
// others.
func lone(g store.Claimed, maxAttempts int) task.Lone {
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
	came, err := c.st.Wait(ctx, c.run, waitFor)
	switch {
	case err == nil:
		c.ok()
		if came {
			c.brought()
		}
		return came || c.unrouted.Load() > 0, nil
	case store.Classify(err) == store.ClassTransient && store.Answered(err):
		// Blocking is refused (out of memory, no such command, unblocked by
		// hand): ask again in a while by claiming.
		backoff.Sleep(ctx, max(c.poll, c.pause.Next()))
		return true, nil
	default:
		return false, err
	}
}
