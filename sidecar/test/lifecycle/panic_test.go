//go:build lifecycle

package lifecycle

import (
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestNothingIsLeftAfterAPanicInAnyActor: a bug in one stage ends the sidecar
// with status 70 and a message that names it. The others stop in order: no
// process, file or key of the run is left, and every record has either its
// result or its place in the queue.
func TestNothingIsLeftAfterAPanicInAnyActor(t *testing.T) {
	t.Parallel()
	for _, stage := range []string{"claim", "process", "report", "lease", "leave", "health", "redis"} {
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.binary = breakableBinary
			gate, broken := b.gate("gate"), b.gate("broken")
			ids := []string{"a", "b", "c", "d"}
			for _, id := range ids {
				b.push(job{TaskID: id, Do: "gate", Path: gate})
			}
			s := b.sidecar("LIFECYCLE_BREAK="+stage+"="+broken, "SIDECAR_REDIS_PING_INTERVAL=200ms", "SIDECAR_SHUTDOWN_TIMEOUT=4s")
			b.begun(gate)
			wait.Until(t, "both to run", func() bool { return len(b.queue()) == 2 })
			b.open(broken)
			switch stage {
			case "leave", "redis": // they only work during a stop
				s.signal(syscall.SIGTERM)
				b.open(gate)
			case "process", "report", "claim": // at the next task's end
				s.signalled = time.Now()
				b.open(gate)
			default:
				s.signalled = time.Now()
				wait.Until(t, "the panic to begin the stop", func() bool {
					wait.Pass(2 * time.Second)
					b.open(gate)
					return true
				})
			}
			took := s.exits(70, 6*time.Second)
			t.Logf("ended after %v", took)
			text := s.log.String()
			if !strings.Contains(text, "sidecar: internal error: "+stage+" panicked: broken for a test") {
				t.Errorf("it does not say that %s panicked", stage)
			}
			queue := b.queue()
			for _, id := range ids {
				inQueue := 0
				for _, q := range queue {
					if q == id {
						inQueue++
					}
				}
				if stage != "leave" && (inQueue == 1) == (b.result(id) != "") {
					t.Errorf("%s: %d times in the queue, result %q", id, inQueue, b.result(id))
				}
			}
			if !slices.IsSorted(queue) && stage != "process" {
				t.Errorf("queue %v", queue)
			}
			if left := b.leftovers(); len(left) > 0 && stage != "leave" { // what cannot be left runs out
				t.Errorf("keys left over: %v", left)
			}
		})
	}
}
