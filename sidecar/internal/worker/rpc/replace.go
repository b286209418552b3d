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

// Restart asks for every child to be replaced by a fresh one and returns at once.
//
// It is one child after another, and each successor is started and has answered
// initialize before its predecessor is told to finish: no task is lost, no slot
// is without a worker for as long as a start takes, and a successor that does
// not start ends the round with the old workers at their places. There are never
// more tasks at once than slots, and one process more than usual (a few, where
// tasks outlast replacePatience).
//
// Asking again during a round makes one more of it. A stop ends it.
func (p *Pool) Restart() { notify(p.renew) }

// RestartSlot is Restart for the children of one slot. It reports whether there is
// one: false also while many others are being asked for.
func (p *Pool) RestartSlot(slot int) bool {
	if len(p.inSlot(slot)) == 0 {
		return false
	}
	select {
	case p.renewAt <- slot:
		return true
	default:
		return false
	}
}

// renewals serves Restart and RestartSlot until ctx ends.
func (p *Pool) renewals(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.renew:
			p.renewAll(ctx, p.serving())
		case slot := <-p.renewAt:
			p.renewAll(ctx, p.inSlot(slot))
		}
	}
}

func (p *Pool) renewAll(ctx context.Context, old []*child) {
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

// inSlot lists the serving children of a slot: more than one only while one
// replaces the other.
func (p *Pool) inSlot(slot int) []*child {
	return slices.DeleteFunc(p.serving(), func(c *child) bool { return c.slot != slot })
}

// serving lists the children that have a slot of their own, by slot. A lone
// task's child is not among them: it is fresh, and gone with its task.
func (p *Pool) serving() []*child {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]*child, 0, len(p.children))
	for c := range p.children {
		if c.kind != kindLone && !closed(c.closing) {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *child) int { return cmp.Compare(a.slot, b.slot) })
	return list
}

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

// replaced tells why another child takes this one's place: it was ended for what it
// did, it was asked to go or went by itself, or it died.
func (p *Pool) replaced(c *child, asked bool) {
	c.mu.Lock()
	fault := c.fault != ""
	c.mu.Unlock()
	switch {
	case fault:
		p.tell(p.cfg.Replaced, "fault")
	case asked, c.quit():
		p.tell(p.cfg.Replaced, "recycled")
	default:
		p.tell(p.cfg.Replaced, "crash")
	}
}

func (p *Pool) tell(who func(string), what string) {
	if who != nil {
		who(what)
	}
}
