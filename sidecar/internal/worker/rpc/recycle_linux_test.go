package rpc_test

import (
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestTheMemoryOfRealProcessesIsLookedAt: every process takes more than the limit of
// one byte.
func TestTheMemoryOfRealProcessesIsLookedAt(t *testing.T) {
	b := setup(t, "good", func(c *rpc.Config) { c.Slots, c.MaxChildRSS = 2, 1 })
	wait.Until(t, "two children", func() bool { return b.pool.Up() == 2 })
	old := b.pids()
	for b.touched(old) > 0 || !strings.Contains(b.log.String(), "SIDECAR_MAX_CHILD_RSS") {
		b.push("", "")
		o := b.next()
		for o.Conclusion == task.Returned { // refused, since the child was ending
			b.queue.Offer([]task.Task{o.Task})
			o = b.next()
		}
		if o.Conclusion != task.Succeeded {
			t.Fatalf("%v: %s", o.Conclusion, o.Message)
		}
	}
	b.wantNoProcessLeft(t)
}
