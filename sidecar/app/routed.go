package app

import (
	"context"
	"slices"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/claim"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task/route"
)

// source is the claim stage's Redis.
func (a *App) source(st *redis.Store) claim.Source {
	c := &claims{
		link: a.newLink(), newLink: a.newLink, st: st, held: a.held, poll: a.cfg.PollInterval, maxAttempts: a.cfg.MaxAttempts, holds: &a.holds, brought: a.queue.Brought, unrouted: &a.unrouted,
		isolated: &a.isolated, canIsolate: a.queue.CanIsolate,
	}
	if len(a.cfg.Kinds) == 0 {
		c.patience.long = &a.waitsLong
		return c
	}
	return &routed{claims: c, queue: a.queue, patterns: a.cfg.Patterns(), keep: a.cfg.UnroutedTimeout}
}

// collectEvery is how often a sidecar that takes every kind of task looks for
// those that others have no worker for.
const collectEvery = time.Second

// collect does that, so that the claim that follows finds them.
func (c *claims) collect(ctx context.Context, limit int) error {
	if c.unrouted.Load() == 0 || time.Since(c.collected) < collectEvery {
		return nil
	}
	if _, err := c.st.Collect(ctx, c.run, limit); err != nil {
		return err
	}
	c.collected = time.Now()
	return nil
}

// routed is claims for several kinds of worker.
type routed struct {
	*claims
	queue    *dispatch.Queue
	patterns []string
	keep     time.Duration
	left     int // records in the queue after the last claim
	moved    int // by it, out of the way
}

// Claim takes tasks of the kinds that have free slots. What it may take can have
// changed when a call is repeated; what the first try took is the answer then.
func (r *routed) Claim(ctx context.Context, nonce string, _ int) ([]task.Task, error) {
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	if r.holds.isSilent(r.run) {
		return nil, nil
	}
	routes := redis.Routes{Patterns: r.patterns, Free: r.queue.Wants(), Keep: r.keep}
	if _, err := r.takeIsolated(ctx, nonce, routes); err != nil {
		return nil, err
	}
	got, err := r.st.ClaimRouted(ctx, r.run, nonce, routes)
	if err != nil {
		return nil, err
	}
	r.ok()
	r.left, r.moved = got.Left, got.Moved
	return r.tasks(got.Claimed), nil
}

// slotPatience is how long the tasks of kinds whose slots are taken are left
// alone, unless a slot gets free.
const slotPatience = 100 * time.Millisecond

// Wait waits for records in the queue. A blocking wait is for an empty one, and
// for a sidecar that has a slot: it would bring the same record of a kind that is
// full again and again, and keep it from those who are not.
func (r *routed) Wait(ctx context.Context) (bool, error) {
	switch {
	case r.moved > 0:
		return true, nil // others are in sight now
	case !slices.ContainsFunc(r.queue.Wants(), func(n int) bool { return n > 0 }):
		return true, nil // Want waits
	case r.left > 0:
		r.queue.AwaitRoom(ctx, slotPatience)
		return true, nil
	default:
		return r.claims.Wait(ctx)
	}
}

// routes tells the claim stage of a task that Redis could not tell.
func (a *App) routes() func(taskID string) int {
	list, _ := route.ParseAll(a.cfg.Patterns()) // they are valid
	return func(taskID string) int {
		if i := route.Find(list, taskID); i >= 0 {
			return i
		}
		return task.RouteNone
	}
}
