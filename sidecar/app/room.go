package app

import (
	"context"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// room is where claimed tasks go: there is room for as many as can start, unless
// Redis has yet to hear of too many that have ended. It notes what the claim loop
// waits for.
type room struct {
	*dispatch.Queue
	box   *report.Box
	pulse *pulse
}

func (r room) Want(ctx context.Context) (int, error) {
	r.pulse.step(waitsForReports)
	if err := r.box.Room(ctx); err != nil {
		return 0, err
	}
	r.pulse.step(waitsForSlots)
	return r.Queue.Want(ctx)
}

func (r room) Put(ts []task.Task) {
	r.pulse.step(waitsForNothing)
	r.Queue.Put(ts)
}
