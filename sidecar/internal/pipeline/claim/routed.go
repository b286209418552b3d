package claim

import (
	"context"
	"slices"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// collectEvery is how often a sidecar that takes every kind of task looks for
// those that others have no worker for.
const collectEvery = time.Second

// collect does that, so that the claim that follows finds them.
func (c *Redis) collect(ctx context.Context, limit int) error {
	if c.o.Aside.Unrouted.Load() == 0 || time.Since(c.collected) < collectEvery {
		return nil
	}
	if _, err := c.o.Store.Collect(ctx, c.Run, limit); err != nil {
		return err
	}
	c.collected = time.Now()
	return nil
}

// Slots is the dispatch queue as a source for several kinds of worker sees it.
type Slots interface {
	// Wants returns how many tasks of each kind may start.
	Wants() []int
	// AwaitRoom waits until a slot gets free, for d at most.
	AwaitRoom(ctx context.Context, d time.Duration)
}

// RoutedRedis is [Redis] for several kinds of worker.
type RoutedRedis struct {
	*Redis
	slots    Slots
	patterns []string
	keep     time.Duration
	left     int // records in the queue after the last claim
	moved    int // by it, out of the way
}

// NewRoutedRedis makes a source for several kinds of worker: patterns are those of the
// kinds, keep is how long a record is kept that none of them takes.
func NewRoutedRedis(o RedisOptions, slots Slots, patterns []string, keep time.Duration) *RoutedRedis {
	return &RoutedRedis{Redis: NewRedis(o), slots: slots, patterns: patterns, keep: keep}
}

// Claim takes tasks of the kinds that have free slots. What it may take can have
// changed when a call is repeated; what the first try took is the answer then.
func (r *RoutedRedis) Claim(ctx context.Context, nonce string, _ int) ([]task.Task, error) {
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	if r.o.Silent(r.Run) {
		return nil, nil
	}
	routes := redis.Routes{Patterns: r.patterns, Free: r.slots.Wants(), Keep: r.keep}
	if _, err := r.takeIsolated(ctx, nonce, routes); err != nil {
		return nil, err
	}
	got, err := r.o.Store.ClaimRouted(ctx, r.Run, nonce, routes)
	if err != nil {
		return nil, err
	}
	r.OK()
	r.left, r.moved = got.Left, got.Moved
	return r.tasks(got.Claimed), nil
}

// slotPatience is how long the tasks of kinds whose slots are taken are left
// alone, unless a slot gets free.
const slotPatience = 100 * time.Millisecond

// Wait waits for records in the queue. A blocking wait is for an empty one, and
// for a sidecar that has a slot: it would bring the same record of a kind that is
// full again and again, and keep it from those who are not.
func (r *RoutedRedis) Wait(ctx context.Context) (bool, error) {
	switch {
	case r.moved > 0:
		return true, nil // others are in sight now
	case !slices.ContainsFunc(r.slots.Wants(), func(n int) bool { return n > 0 }):
		return true, nil // Want waits
	case r.left > 0:
		r.slots.AwaitRoom(ctx, slotPatience)
		return true, nil
	default:
		return r.Redis.Wait(ctx)
	}
}
