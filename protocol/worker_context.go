package protocol

import (
	"context"
	"sync"
	"time"
)

// taskContext is a handler's context. Few handlers use theirs, and to register a
// real one with its parent and remove it again was a tenth of a short task: the
// first use makes it.
type taskContext struct {
	base     context.Context
	deadline time.Time // zero means none

	mu     sync.Mutex
	made   context.Context // nil until the first use
	give   context.CancelCauseFunc
	stop   context.CancelFunc
	called bool  // cancelled, before it was made
	cause  error // of that
}

// init comes before everything else.
func (c *taskContext) init(base context.Context, deadline time.Time) {
	c.base, c.deadline = base, deadline
}

// real is the context itself.
func (c *taskContext) real() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made == nil {
		c.made, c.give = context.WithCancelCause(c.base)
		if c.called {
			c.give(c.cause)
		}
		if !c.deadline.IsZero() {
			c.made, c.stop = context.WithDeadline(c.made, c.deadline)
		}
	}
	return c.made
}

// cancel ends it; the first cause counts.
func (c *taskContext) cancel(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.made != nil:
		c.give(cause)
	case !c.called:
		c.called, c.cause = true, cause
	}
}

// end is cancel for a task that has ended by itself.
func (c *taskContext) end() {
	c.cancel(nil)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stop != nil {
		c.stop()
	}
}

func (c *taskContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }
func (c *taskContext) Done() <-chan struct{}       { return c.real().Done() }
func (c *taskContext) Err() error                  { return c.real().Err() }
func (c *taskContext) Value(key any) any           { return c.real().Value(key) }
