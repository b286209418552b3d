package app

import (
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task/route"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
)

// newQueue makes the stage between claim and process.
func (a *App) newQueue() *dispatch.Queue {
	exits := dispatch.Exits{GiveBack: a.box.GiveBack, SetAside: a.box.SetAside}
	if n := len(a.cfg.Kinds); n > 0 {
		return dispatch.NewKinds(n, exits)
	}
	return dispatch.New(exits)
}

// kindStages makes them. The slots of all have numbers of their own: those of a
// kind begin where the one before cannot come, also with all that it lends.
func (a *App) kindStages() (worker.Pool, error) {
	all := worker.Group{Patterns: a.cfg.Patterns(), Failed: a.Stop}
	first := 0
	for i, k := range a.cfg.Kinds {
		cfg, err := a.processConfig(k)
		if err != nil {
			return nil, err
		}
		cfg.FirstSlot, cfg.Log = first, a.log.With("kind", k.Pattern)
		all.Stages = append(all.Stages, a.stage(k, cfg, a.queue.Kind(i)))
		first += k.Slots + k.Worker.MaxLent
	}
	return all, nil
}

// staffed reports whether there are the workers that a ready sidecar has.
func (a *App) staffed() bool {
	if k, several := a.pool.(worker.Group); several {
		return k.Complete()
	}
	return a.pool.Up() >= a.wanted()
}

// A kind's lane is what its stage takes tasks from.
var _ rpc.Source = (*dispatch.Lane)(nil)

// routes tells the claim stage of a task that Redis could not tell.
func (a *App) routes() func(taskID string) int {
	list, _ := route.ParseAll(a.cfg.Patterns()) // they are valid
	return func(taskID string) int {
		if i := route.Find(list, taskID); i >= 0 {
			return i
		}
		return task.RouteNone
	}
}
