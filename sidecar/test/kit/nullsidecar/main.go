// Command nullsidecar is a sidecar without workers: every task ends as soon as the sidecar has
// taken it. It has the same scripts, guarantees, slots, batches and connections as the
// sidecar, so its speed is the limit that the benchmarks compare with.
package main

import (
	"context"
	"os"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/cli"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/testhook"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/stage"
)

func main() {
	testhook.Hooks.Pool = func(o stage.Options) worker.Pool {
		return &null{lane: o.Lane(0), sink: o.Sink, slots: o.Config.Slots}
	}
	os.Exit(cli.Main(os.Args, os.Environ()))
}

// null is a pool without workers.
type null struct {
	lane  stage.Lane
	sink  rpc.Sink
	slots int
}

func (n *null) Run(soft, _ context.Context) error {
	n.lane.AddCapacity(n.slots)
	for {
		ts, err := n.lane.Acquire(soft, n.slots)
		if err != nil {
			return nil
		}
		places := make([]task.SlotState, len(ts))
		for i, t := range ts {
			now := time.Now()
			n.sink.Add(task.Outcome{Task: t, Conclusion: task.Succeeded, StartedAt: now, EndedAt: now})
			places[i] = t.SlotState()
		}
		n.lane.ReleaseAll(places)
	}
}

func (n *null) Up() int            { return 1 }
func (*null) Restart()             {}
func (*null) Evict(string)         {}
func (*null) CrashLoop() bool      { return false }
func (*null) RestartSlot(int) bool { return false }
func (*null) Slots() []worker.Slot { return nil }
