package rpc

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// recycleState is what tells when a child is to be replaced by a fresh one.
type recycleState struct {
	quota   int       // tasks that it may take; 0 means any number
	taken   int       // under child.mu
	born    time.Time // when it was ready
	expires time.Time // zero means never

	// The recycle goroutine's own.
	measured time.Time // when its memory was looked at last
	barred   time.Time // not to be tried again before
	busy     bool      // it is being replaced
}

const (
	// recycleJitter is the share of a limit that chance takes off, for each child
	// anew: children that were started together would else all go together.
	recycleJitter = 0.2
	// recycleInterval is between looks at the children's age and memory.
	recycleInterval = time.Second
	// measureGap is the least time between two looks at one child's memory,
	// however many tasks it ends.
	measureGap = 100 * time.Millisecond
)

func newRecycleState(cfg *Config, now time.Time) recycleState {
	off := rand.Float64() * recycleJitter
	r := recycleState{born: now, quota: cfg.MaxTasksPerChild - int(off*float64(cfg.MaxTasksPerChild))}
	if cfg.MaxChildAge > 0 {
		r.expires = now.Add(cfg.MaxChildAge - time.Duration(off*float64(cfg.MaxChildAge)))
	}
	return r
}

// bound is how many of n tasks the child may still take.
func (r *recycleState) bound(n int) int {
	if r.quota == 0 {
		return n
	}
	return min(n, r.quota-r.taken)
}

// spent reports whether it has taken all that it may.
func (r *recycleState) spent() bool { return r.quota > 0 && r.taken >= r.quota }

// shouldRecycle says why the child is to be replaced, or nothing.
func (c *child) shouldRecycle(now time.Time) string {
	c.mu.Lock()
	spent, taken, expires := c.recycle.spent(), c.recycle.taken, c.recycle.expires
	c.mu.Unlock()
	switch {
	case spent:
		return fmt.Sprintf("it has had %d tasks (SIDECAR_MAX_TASKS_PER_CHILD)", taken)
	case now.Before(c.recycle.barred):
		return ""
	case !expires.IsZero() && !now.Before(expires):
		return "it is old enough (SIDECAR_MAX_CHILD_AGE)"
	case c.cfg.MaxChildRSS == 0 || now.Sub(c.recycle.measured) < measureGap:
		return ""
	}
	c.recycle.measured = now
	rss, err := c.pool.resident(c.proc.Pid())
	if err != nil || rss <= c.cfg.MaxChildRSS { // it has just ended, say
		return ""
	}
	return fmt.Sprintf("it takes %d MiB (SIDECAR_MAX_CHILD_RSS)", rss>>20)
}

// recycleLoop replaces children that have reached a limit until ctx ends: each with its
// successor started first and between its tasks, and of all children no more
// than a quarter at a time, since starts are what costs.
func (p *Pool) recycleLoop(ctx context.Context) {
	if p.cfg.MaxTasksPerChild == 0 && p.cfg.MaxChildAge == 0 && p.cfg.MaxChildRSS == 0 {
		return
	}
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex // of what follows and of each child's recycle.busy and barred
		running int
	)
	defer wg.Wait()
	tick := time.NewTicker(recycleInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-p.recycleCheck:
		}
		// The oldest first: with a limit that a fresh worker is over already, the
		// first slot would else have every turn.
		serving := p.serving()
		slices.SortStableFunc(serving, func(a, b *child) int { return a.recycle.born.Compare(b.recycle.born) })
		mu.Lock()
		for _, c := range serving {
			if running >= max(len(serving)/4, 1) {
				break
			}
			if c.recycle.busy {
				continue
			}
			reason := c.shouldRecycle(time.Now())
			if reason == "" {
				continue
			}
			c.recycle.busy = true
			running++
			wg.Go(func() {
				p.safe(func() { p.recycle(ctx, c, reason) })
				mu.Lock()
				running--
				c.recycle.busy, c.recycle.barred = false, time.Now().Add(p.cfg.Restart.Max)
				mu.Unlock()
				notify(p.recycleCheck) // for those that had to wait
			})
		}
		mu.Unlock()
	}
}

// recycle replaces one child. The turn of the next one comes when the successor
// is there, if the child's slot waits for it; else, since memory may be scarce,
// when the child is gone or has been given replacePatience for that.
func (p *Pool) recycle(ctx context.Context, c *child, reason string) {
	c.log.Info("replacing a worker", "reason", reason)
	replace := c.replace
	if c.isSpent() {
		replace = c.requestReplacement
	}
	if err := replace(ctx); err != nil && ctx.Err() == nil {
		c.log.Warn("replacement of a worker does not start", "reason", reason, "error", err)
	}
}

// resident is how much memory a child takes.
func (p *Pool) resident(pid int) (int64, error) {
	if p.cfg.Resident != nil {
		return p.cfg.Resident(pid)
	}
	return local.Resident(pid)
}
