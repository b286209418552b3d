package rpc

import (
	"context"
	"slices"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// pump moves tasks from the source into the child until ctx ends or the source
// closes. In a child that runs several, a task that must be alone goes to lone.
func (c *child) pump(ctx context.Context, lone func(task.Task)) {
	defer c.fetches.Wait()
	for {
		n := c.awaitFree(ctx)
		if n == 0 {
			return
		}
		ts, err := c.src.Acquire(ctx, n)
		if err != nil {
			return
		}
		if c.limit > 1 {
			ts = slices.DeleteFunc(ts, func(t task.Task) bool {
				if t.Isolation != task.IsolateNone {
					lone(t)
				}
				return t.Isolation != task.IsolateNone
			})
		}
		c.begin(ctx, ts)
	}
}

// awaitFree waits for a free slot and returns how many there are; 0 when ctx
// ended or the child takes nothing more.
func (c *child) awaitFree(ctx context.Context) int {
	for {
		c.mu.Lock()
		n := c.recycle.bound(c.limit - len(c.running))
		if c.dead || c.draining || c.condemned || c.recycle.spent() {
			n = -1
		}
		c.mu.Unlock()
		switch {
		case n > 0 && ctx.Err() == nil:
			if c.awaitQuit(ctx) {
				continue
			}
			return n
		case n < 0:
			return 0
		}
		select {
		case <-ctx.Done():
			return 0
		case <-c.free:
		}
	}
}

// begin writes tasks to the child. A child that is going gives them back
// untouched.
func (c *child) begin(ctx context.Context, ts []task.Task) {
	now := time.Now()
	c.mu.Lock()
	if c.dead || c.draining || c.condemned {
		c.mu.Unlock()
		c.src.Return(ts)
		return
	}
	ids := make([]int64, len(ts))
	runs := make([]*run, len(ts))
	var evicted []task.Task
	for i, t := range ts {
		if c.pool.isEvicted(&t) {
			evicted = append(evicted, t)
			continue
		}
		id := c.nextID
		c.nextID++
		c.recycle.taken++
		if names := c.inputsFor(t.Info.TaskID); names != nil {
			c.fetchLocked(ctx, id, &run{task: t}, names)
			continue
		}
		ids[i] = id
		r := &run{task: t, started: now}
		runs[i] = r
		if d := t.Limit(c.cfg.TaskTimeout); d > 0 {
			r.expiry = time.AfterFunc(d, func() { c.expire(id) })
		}
		c.running[id] = r
	}
	spent := c.recycle.spent()
	c.mu.Unlock()
	if spent {
		c.leave()
		notify(c.pool.recycleCheck)
	}
	for _, t := range evicted {
		r := &run{task: t}
		c.mu.Lock()
		r.place = c.placeLocked(r)
		c.mu.Unlock()
		c.finish(r, task.Outcome{Conclusion: task.Returned, Message: "its lease was lost"})
	}
	c.out.addAll(len(ts), func(dst []byte, i int) []byte {
		if ids[i] == 0 {
			return dst // evicted, or its inputs are being read
		}
		return protocol.AppendTaskRun(dst, ids[i], params(&ts[i], c.cfg.TaskTimeout, now))
	}, func(i int, end int64) { runs[i].end.Store(end) })
}
