package app

import (
	"context"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
)

// room is where claimed tasks go: there is room for as many as can start, unless
// Redis has yet to hear of too many that have ended.
type room struct {
	*dispatch.Queue
	box *report.Box
}

func (r room) Want(ctx context.Context) (int, error) {
	if err := r.box.Room(ctx); err != nil {
		return 0, err
	}
	return r.Queue.Want(ctx)
}
