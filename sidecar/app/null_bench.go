//go:build bench

package app

import (
	"context"
	"os"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
)

// The binary of the benchmarks can go without children: with BENCH_NULL=1 every
// task has ended as soon as it is taken. What is left is the limit: the same
// scripts, guarantees, slots, batches and connections.
func init() {
	if os.Getenv("BENCH_NULL") == "" {
		return
	}
	standard.workers = func(a *App) worker.Pool { return &null{queue: a.queue, sink: a.outcomeSink(), slots: a.cfg.Slots} }
}

// null is a stage without workers.
type null struct {
	queue *dispatch.Queue
	sink  rpc.Sink
	slots int
}

func (n *null) Run(soft, _ context.Context) error {
	n.queue.AddCapacity(n.slots)
	for {
		ts, err := n.queue.Take(soft, n.slots)
		if err != nil {
			return nil
		}
		places := make([]task.Place, len(ts))
		for i, t := range ts {
			now := time.Now()
			n.sink.Done(task.Outcome{Task: t, Kind: task.Succeeded, StartedAt: now, EndedAt: now})
			places[i] = t.Place()
		}
		n.queue.EndAll(places)
	}
}

func (n *null) Up() int          { return 1 }
func (*null) Renew()             {}
func (*null) Evict(string)       {}
func (*null) CrashLoop() bool    { return false }
func (*null) RenewSlot(int) bool { return false }
func (*null) Slots() []Slot      { return nil }
