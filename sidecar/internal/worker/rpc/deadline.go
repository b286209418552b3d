package rpc

import (
	"fmt"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// expire ends a task that is past its deadline: it is cancelled; if that does
// not end it, the child gets nothing new and is killed once its neighbours have
// ended, or after the grace (they go back at no cost then).
func (c *child) expire(id int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.running[id]
	if r == nil || r.expired {
		return
	}
	r.expired = true
	c.log.Warn("task is past its deadline: cancelled", r.task.LogAttrs()...)
	c.cancelLocked(id)
	r.expiry = time.AfterFunc(c.cfg.KillGrace/4, func() { c.condemn(id) })
}

// condemn is the second step of expire.
func (c *child) condemn(id int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.running[id]
	if r == nil {
		return
	}
	c.condemned = true
	notify(c.free)
	c.judgeLocked()
	r.expiry = time.AfterFunc(c.cfg.KillGrace, func() { c.breakWith(ignoredCancel) })
}

const ignoredCancel = "did not end a task past its deadline when it was cancelled"

// judgeLocked ends a condemned child that runs nothing but overdue tasks.
func (c *child) judgeLocked() {
	if !c.condemned {
		return
	}
	for _, r := range c.running {
		if !r.expired {
			return
		}
	}
	c.breakLocked(ignoredCancel)
}

func (c *child) cancelLocked(id int64) {
	if r := c.running[id]; r != nil && r.fetching != nil {
		r.fetching() // the worker has not heard of it
		return
	}
	c.out.add(func(dst []byte) []byte {
		return protocol.AppendNotification(dst, protocol.MethodCancel, fmt.Appendf(nil, `{"id":%d}`, id))
	})
}

// evict cancels everything that runs in the child and replaces it if that does
// not help within the grace. It returns when nothing of it is running.
func (c *child) evict() {
	c.mu.Lock()
	old := make([]int64, 0, len(c.running))
	for id := range c.running {
		old = append(old, id)
		c.cancelLocked(id)
	}
	c.mu.Unlock()
	poll := time.NewTicker(c.cfg.KillGrace / 50)
	defer poll.Stop()
	grace := time.NewTimer(c.cfg.KillGrace)
	defer grace.Stop()
	for c.holdsAny(old) {
		select {
		case <-poll.C:
		case <-grace.C:
			c.breakWith("did not end tasks whose lease was lost when they were cancelled")
			<-c.over
			return
		case <-c.over:
			return
		}
	}
}

func (c *child) holdsAny(ids []int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if c.running[id] != nil {
			return true
		}
	}
	return false
}

// overdue reports whether a failure is that of a task at its deadline. A worker
// that watches the deadline itself may see it a moment before we do.
func (r *run) overdue(otherwise time.Duration) bool {
	const slack = 10 * time.Millisecond
	limit := r.task.Limit(otherwise)
	return r.expired || (limit > 0 && time.Since(r.started) >= limit-slack)
}

func timedOut(r *run, limit time.Duration) task.Outcome {
	return task.Outcome{
		Conclusion: task.Failed, Reason: "timeout",
		Message: fmt.Sprintf("Task execution timeout: it ran longer than %v", r.task.Limit(limit)),
	}
}
