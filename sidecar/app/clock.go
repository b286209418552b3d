package app

import (
	"context"
	"sync"
	"time"
)

// stopClock counts a stop's budget from the moment it was asked for, wherever
// in the sequence we are by then.
type stopClock struct {
	total time.Duration

	mu     sync.Mutex
	begun  time.Time
	rushed time.Time
	began  chan struct{} // closed by begin
	rush   context.Context
	hurry  context.CancelFunc
}

func newStopClock(total time.Duration) *stopClock {
	rush, hurry := context.WithCancel(context.Background())
	return &stopClock{total: total, began: make(chan struct{}), rush: rush, hurry: hurry}
}

// begin starts the budget; only the first call does.
func (c *stopClock) begin() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.begun.IsZero() {
		c.begun = time.Now()
		close(c.began)
	}
}

// Begun is closed when the stop begins.
func (c *stopClock) Begun() <-chan struct{} { return c.began }

// Age is how long ago the stop began. Only after that.
func (c *stopClock) Age() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return time.Since(c.begun)
}

// letGo cuts the budget to rushedBudget from now; only the first call does.
func (c *stopClock) letGo() {
	c.begin()
	c.mu.Lock()
	if c.rushed.IsZero() {
		c.rushed = time.Now()
	}
	c.mu.Unlock()
	c.hurry()
}

// until returns a context that ends when reserve is left of the budget (see
// share), or sooner after letGo. Only after begin.
func (c *stopClock) until(reserve time.Duration) (context.Context, context.CancelFunc) {
	c.mu.Lock()
	begun := c.begun
	c.mu.Unlock()
	ctx, cancel := context.WithDeadline(context.Background(), begun.Add(c.share(reserve)))
	left := rushedBudget - time.Duration(float64(rushedBudget)*float64(reserve)/float64(reserveAfterProcess))
	stop := context.AfterFunc(c.rush, func() {
		t := time.NewTimer(left - time.Since(c.rushedAt()))
		defer t.Stop()
		select {
		case <-t.C:
			cancel()
		case <-ctx.Done():
		}
	})
	return ctx, func() { stop(); cancel() }
}

func (c *stopClock) rushedAt() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rushed
}

// rushedBudget is what a stop has once it is told to let go: children are
// killed at once, and what they held is still handed back.
const rushedBudget = 2 * time.Second

// share is the part of the budget that leaves reserve for the stages that stop
// later. The reserves are made for the default budget of 25 s. Of a shorter
// budget each reserve takes its proportion, but not less than it takes to kill
// children that do not stop and to hand back their records: with 3 s and a
// plain proportion, the time for reports was over before the children were
// dead. The workers get half of the budget in any case.
func (c *stopClock) share(reserve time.Duration) time.Duration {
	part := max(float64(c.total)/float64(designedFor), float64(leastAfterProcess)/float64(reserveAfterProcess))
	part = min(part, float64(c.total)/2/float64(reserveAfterProcess), 1)
	return c.total - time.Duration(float64(reserve)*part)
}

// leastAfterProcess is what the stages after the worker stage get at least: the steps of a
// forced stop take 0.6 s once no time is left, and then there is something to report.
const leastAfterProcess = 1500 * time.Millisecond

// designedFor is the budget that the reserves below were chosen for: it leaves
// five seconds of Kubernetes' default terminationGracePeriodSeconds of 30.
const designedFor = 25 * time.Second

// What a stage leaves of the budget to those that stop after it: process ends
// at T-5, report at T-2, leave at T-1, everything else has until T.
const (
	reserveAfterProcess = 5 * time.Second
	reserveAfterReport  = 2 * time.Second
	reserveAfterLeave   = time.Second
)

// speakAtLeast is what the stages that tell Redis something at the end have
// even where those before them have used up the whole budget: enough for a
// Redis that answers, and less than the watchdog's patience where it does not.
const speakAtLeast = 300 * time.Millisecond
