package claim

import (
	"context"
	"slices"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// collectInterval is the interval at which a sidecar that takes every task collects unrouted
// records.
const collectInterval = time.Second

// collect moves unrouted records into the inbox for the claim that follows.
func (c *Redis) collect(ctx context.Context, limit int) error {
	if c.o.Parked.Unrouted.Load() == 0 || time.Since(c.lastCollect) < collectInterval {
		return nil
	}
	if _, err := c.o.Store.Collect(ctx, c.Run, limit); err != nil {
		return err
	}
	c.lastCollect = time.Now()
	return nil
}

// Demands reports the demand of each kind of worker. *dispatch.Queue implements it.
type Demands interface {
	// Demands returns the number of tasks of each kind that may start.
	Demands() []int
	// AwaitDemand waits until the demand may have grown, for d at most.
	AwaitDemand(ctx context.Context, d time.Duration)
}

// RoutedRedis is the [Source] for several kinds of worker.
type RoutedRedis struct {
	*Redis
	demands   Demands
	patterns  []string
	keep      time.Duration
	remaining int // records in the queue after the last claim
	parked    int // records that the last claim moved to the unrouted list
}

// NewRoutedRedis returns a source for several kinds of worker with the given patterns. keep
// is the time for which an unrouted record is kept.
func NewRoutedRedis(o RedisOptions, slots Demands, patterns []string, keep time.Duration) *RoutedRedis {
	return &RoutedRedis{Redis: NewRedis(o), demands: slots, patterns: patterns, keep: keep}
}

// Claim claims tasks of the kinds with free slots. The demand may have changed for a repeated
// call, which returns the tasks of the first one.
func (r *RoutedRedis) Claim(ctx context.Context, nonce string, _ int) ([]task.Task, error) {
	if err := r.ensureRun(ctx); err != nil {
		return nil, err
	}
	if r.o.Paused(r.Run) {
		return nil, nil
	}
	demand := redis.KindDemand{Patterns: r.patterns, Free: r.demands.Demands(), Keep: r.keep}
	if _, err := r.takeIsolated(ctx, nonce, demand); err != nil {
		return nil, err
	}
	got, err := r.o.Store.ClaimRouted(ctx, r.Run, nonce, demand)
	if err != nil {
		return nil, err
	}
	r.OK()
	r.remaining, r.parked = got.Remaining, got.Moved
	return r.tasks(got.Claimed), nil
}

// slotWait is the maximum pause between claims while the queue holds tasks of kinds without a
// free slot.
const slotWait = 100 * time.Millisecond

// Wait implements [Source]. It blocks in Redis only if the queue is empty and a slot is free:
// a blocking wait would otherwise bring the same record of a full kind again and again, and
// keep it from other sidecars.
func (r *RoutedRedis) Wait(ctx context.Context) (bool, error) {
	switch {
	case r.parked > 0:
		return true, nil // the claim can reach records behind the parked ones
	case !slices.ContainsFunc(r.demands.Demands(), func(n int) bool { return n > 0 }):
		return true, nil // Demand waits
	case r.remaining > 0:
		r.demands.AwaitDemand(ctx, slotWait)
		return true, nil
	default:
		return r.Redis.Wait(ctx)
	}
}
