package rpc

import (
	"context"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// quits is what a pool has learned of workers that exit with status 0 by themselves,
// after so many answers: one that is about to do that is not given a task in the last
// moment. Its methods may be called concurrently.
type quits struct {
	mu    sync.Mutex
	after int           // answers; 0 where none has done it
	hold  time.Duration // from that answer to the next task
}

const (
	// quitting is how long a worker may take from its last answer to its exit, for the
	// task that was sent to it meanwhile to count as not begun.
	quitting = time.Second
	// leastHold is for the exit of a process on a busy machine.
	leastHold = 50 * time.Millisecond
	// holdFactor is how many times longer than the last one an exit may take.
	holdFactor = 4
)

// learn notes a worker that has exited after some answers, and how long after the last
// one.
func (q *quits) learn(answers int, took time.Duration) {
	if took >= quitting {
		return // it was idle
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.after == 0 || answers < q.after {
		q.after = answers
	}
	q.hold = min(max(q.hold, holdFactor*took, leastHold), quitting)
}

// pause is how long after its last answer a worker must not be given a task.
func (q *quits) pause(answers int) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.after == 0 || answers < q.after {
		return 0
	}
	return q.hold
}

// survived notes a worker that has not exited when it might have. The next time is after
// twice as many answers: a worker that goes on for long must not wait after each of them.
func (q *quits) survived(answers int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.after > 0 && answers >= q.after {
		q.after = 2 * answers
	}
}

// awaitQuit waits while the child may be about to exit by itself. It reports whether it
// had to.
func (c *child) awaitQuit(ctx context.Context) bool {
	c.mu.Lock()
	answers, since := c.answers, c.answeredAt
	c.mu.Unlock()
	pause := c.pool.quits.pause(answers)
	if answers == 0 || pause == 0 || time.Since(since) >= pause {
		return false
	}
	timer := time.NewTimer(time.Until(since.Add(pause)))
	defer timer.Stop()
	select {
	case <-timer.C:
		c.pool.quits.survived(answers)
	case <-ctx.Done(): // it has exited, or we stop
	}
	return true
}

// quit reports whether the child ended by itself with status 0 after it had answered a
// task, as workers do that want a fresh process now and then, and had not said that it
// would. Only after it has ended.
func (c *child) quit() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.quitLocked()
}

func (c *child) quitLocked() bool {
	return c.useful && c.fault == "" && !c.draining && local.EndingOf(c.proc) == (local.Ending{})
}

// unbegun reports whether a task was sent to the child, and the child ended before it
// can have begun it, and says so in o. read is how much the child has read of what was
// written to it; quit and answered say that it exited by itself, and when its last
// answer came.
func (c *child) unbegun(r *run, o *task.Outcome, read int64, quit bool, answered time.Time) bool {
	fate := c.proc.Fate()
	switch {
	case c.fault != "" || o.Whole:
		return false
	case r.end.Load() > read:
		fate += " before it read the task"
	case quit && r.scope == nil && !r.waiting && r.said.At.IsZero() && !r.started.Before(answered) && time.Since(r.started) < quitting:
		// Another thread of it may have read the task.
		fate += " right after an answer"
	default:
		return false
	}
	o.Conclusion, o.Unread, o.Message = task.Returned, true, "the worker "+fate
	return true
}
