package process

import (
	"context"
	"syscall"
	"time"
)

// cutShort notes that the child is being ended. A worker whose stdin ends, or
// that gets a SIGTERM, cancels what it runs and may still answer with the
// error of that: such an answer is no failure of the task. A success counts.
func (c *child) cutShort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
}

func (c *child) isCut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut
}

// ladder ends the process, harder with every step, and returns when its group
// is dead: end of stdin, SIGTERM, SIGKILL. The steps are grace apart; when
// hard ends, hurry.
func (c *child) ladder(hard context.Context, grace time.Duration) {
	c.out.close()
	if c.awaitExit(hard, grace/4) {
		return
	}
	c.proc.Signal(syscall.SIGTERM)
	if c.awaitExit(hard, grace) {
		return
	}
	c.proc.Signal(syscall.SIGKILL)
	<-c.proc.Exited()
}

// hurry is the time between the steps of the ladder once we must let go.
const hurry = 300 * time.Millisecond

// awaitExit waits for the process to end, for d or, once hard has ended, for
// hurry at most.
func (c *child) awaitExit(hard context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-c.proc.Exited():
		return true
	case <-t.C:
		return false
	case <-hard.Done():
		return within(c.proc.Exited(), min(d, hurry))
	}
}

func within(done <-chan struct{}, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}
