package rpc

import (
	"cmp"
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// Restart has every child replaced by a fresh one and returns at once.
//
// The children are replaced one after another. Each replacement has answered initialize
// before its predecessor takes no more tasks: no task is lost, and no slot is without a
// worker while a process starts. If a replacement does not start, the remaining
// children stay. There are never more running tasks than slots, and at most one more
// process than usual, or a few more where tasks outlast replacePatience.
//
// A second call during a restart causes one more restart. A stop ends the restart.
func (p *Pool) Restart() { notify(p.restart) }

// RestartSlot replaces the children of one slot. It returns false if the slot has none,
// or if many other slots are waiting for a restart.
func (p *Pool) RestartSlot(slot int) bool {
	if len(p.inSlot(slot)) == 0 {
		return false
	}
	select {
	case p.restartSlot <- slot:
		return true
	default:
		return false
	}
}

// restartLoop serves Restart and RestartSlot until ctx ends.
func (p *Pool) restartLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.restart:
			p.restartAll(ctx, p.serving())
		case slot := <-p.restartSlot:
			p.restartAll(ctx, p.inSlot(slot))
		}
	}
}

func (p *Pool) restartAll(ctx context.Context, old []*child) {
	p.cfg.Log.Info("replacing the workers one by one", "workers", len(old))
	for n, c := range old {
		if err := c.replace(ctx); err != nil {
			if ctx.Err() == nil {
				p.cfg.Log.Warn("new worker does not start: the old ones stay", "replaced", n, "error", err)
			}
			return
		}
	}
	p.cfg.Log.Info("workers are replaced", "workers", len(old))
}

// inSlot returns the serving children of a slot: more than one only while one replaces
// the other.
func (p *Pool) inSlot(slot int) []*child {
	return slices.DeleteFunc(p.serving(), func(c *child) bool { return c.slot != slot })
}

// serving returns the children of the slots, ordered by slot. Children of isolated
// tasks are not included, since they end with their task.
func (p *Pool) serving() []*child {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]*child, 0, len(p.children))
	for c := range p.children {
		if c.role != roleIsolated && !closed(c.closing) {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *child) int { return cmp.Compare(a.slot, b.slot) })
	return list
}

// recycleState determines when a child is replaced by a fresh one.
type recycleState struct {
	quota   int       // maximum number of tasks; 0 means no limit
	taken   int       // guarded by child.mu
	born    time.Time // when the child had initialized
	expires time.Time // zero means never

	// Used by recycleLoop only.
	measured time.Time // when its memory was last measured
	barred   time.Time // no new attempt before
	busy     bool      // a replacement is under way
}

const (
	// recycleJitter is the maximum random share by which a child's limits are lower:
	// children that were started together would otherwise all be replaced together.
	recycleJitter = 0.2
	// recycleInterval is the interval of the checks of age and memory.
	recycleInterval = time.Second
	// measureGap is the minimum time between two measurements of one child's memory,
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

// bound returns how many of n tasks the child may still take.
func (r *recycleState) bound(n int) int {
	if r.quota == 0 {
		return n
	}
	return min(n, r.quota-r.taken)
}

// spent reports whether the child has taken its maximum number of tasks.
func (r *recycleState) spent() bool { return r.quota > 0 && r.taken >= r.quota }

// recycleLoop replaces children that have reached a limit, until ctx ends. Each
// replacement starts first, and at most a quarter of the children are replaced at the
// same time, because starting a process is expensive.
func (p *Pool) recycleLoop(ctx context.Context) {
	if p.cfg.MaxTasksPerChild == 0 && p.cfg.MaxChildAge == 0 && p.cfg.MaxChildRSS == 0 {
		return
	}
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex // guards running and each child's recycle.busy and barred
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
		// The oldest first: if a fresh worker already exceeds the limit, the first slot
		// would otherwise be replaced every time.
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
				notify(p.recycleCheck) // for children that had to wait
			})
		}
		mu.Unlock()
	}
}

// recycle replaces one child. A child that has used its quota leaves its slots empty,
// so recycle returns when the replacement serves. Otherwise, since memory may be
// scarce, it returns when the old child is gone, or after replacePatience.
func (p *Pool) recycle(ctx context.Context, c *child, reason string) {
	c.log.Info("replacing a worker", "reason", reason)
	replace := c.replace
	if c.quotaUsed() {
		replace = c.requestReplacement
	}
	if err := replace(ctx); err != nil && ctx.Err() == nil {
		c.log.Warn("replacement of a worker does not start", "reason", reason, "error", err)
	}
}

// resident returns the resident memory of a process.
func (p *Pool) resident(pid int) (int64, error) {
	if p.cfg.Resident != nil {
		return p.cfg.Resident(pid)
	}
	return local.Resident(pid)
}

// replaced reports why a child is replaced: a fault, a recycling or a crash.
func (p *Pool) replaced(c *child, asked bool) {
	c.mu.Lock()
	fault := c.fault != ""
	c.mu.Unlock()
	switch {
	case fault:
		p.report(p.cfg.Replaced, "fault")
	case asked, c.exitedBySelf():
		p.report(p.cfg.Replaced, "recycled")
	default:
		p.report(p.cfg.Replaced, "crash")
	}
}

func (p *Pool) report(to func(string), what string) {
	if to != nil {
		to(what)
	}
}
