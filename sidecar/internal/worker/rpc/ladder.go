package rpc

import (
	"context"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
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

// ladder ends the process and returns when its group is dead.
func (c *child) ladder(hard context.Context) {
	local.End(hard, c.proc, c.out.close, c.cfg.KillGrace)
}
