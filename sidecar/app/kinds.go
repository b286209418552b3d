package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task/route"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
)

// newQueue makes the stage between claim and process.
func (a *App) newQueue() *dispatch.Queue {
	exits := dispatch.Exits{GiveBack: a.giveBack, SetAside: a.setAside}
	if n := len(a.cfg.Kinds); n > 0 {
		return dispatch.NewKinds(n, exits)
	}
	return dispatch.New(exits)
}

// setAside hands on what must run alone in a sidecar and cannot be alone in this one.
func (a *App) setAside(t task.Task) {
	a.box.Done(task.Outcome{Task: t, Kind: task.Returned, Isolate: true, Message: "not started: other tasks run in this sidecar", EndedAt: time.Now()})
}

// giveBack hands back what was claimed and is not started.
func (a *App) giveBack(t task.Task) {
	a.box.Done(task.Outcome{Task: t, Kind: task.Returned, Message: "not started", EndedAt: time.Now()})
}

// kinds is the process stage of a sidecar with several kinds of worker: that of
// each kind, side by side.
type kinds struct {
	patterns []string
	stages   []workers
	// failed is called when one of them has ended by itself.
	failed func()
}

// kindStages makes them. The slots of all have numbers of their own: those of a
// kind begin where the one before cannot come, also with all that it lends.
func (a *App) kindStages() (workers, error) {
	all := kinds{patterns: a.cfg.Patterns(), failed: a.Stop}
	first := 0
	for i, k := range a.cfg.Kinds {
		cfg, err := a.processConfig(k)
		if err != nil {
			return nil, err
		}
		cfg.FirstSlot, cfg.Log = first, a.log.With("kind", k.Pattern)
		all.stages = append(all.stages, a.stage(k, cfg, a.queue.Kind(i)))
		first += k.Slots + k.Worker.MaxLent
	}
	return all, nil
}

// Run runs all of them. One that fails ends the sidecar as one alone would: the
// others finish what they have, within the budget of a stop.
func (k kinds) Run(soft, hard context.Context) error {
	ctx, stop := context.WithCancel(soft)
	defer stop()
	errs := make([]error, len(k.stages))
	var wg sync.WaitGroup
	for i, s := range k.stages {
		wg.Go(func() {
			errs[i] = recoverpanic.Do(func() error { return s.Run(ctx, hard) })
			if errs[i] != nil && soft.Err() == nil {
				errs[i] = fmt.Errorf("tasks %s: %w", k.patterns[i], errs[i])
				k.failed()
				stop()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Up is how many workers are up, of all kinds.
func (k kinds) Up() (n int) {
	for _, s := range k.stages {
		n += s.Up()
	}
	return n
}

// complete reports whether a task of any kind would run.
func (k kinds) complete() bool {
	for _, s := range k.stages {
		if s.Up() == 0 {
			return false
		}
	}
	return true
}

// Renew replaces the workers of each kind one by one.
func (k kinds) Renew() {
	for _, s := range k.stages {
		s.Renew()
	}
}

// RenewSlot replaces the worker in a slot, whichever kind it is of.
func (k kinds) RenewSlot(slot int) bool {
	return slices.ContainsFunc(k.stages, func(s workers) bool { return s.RenewSlot(slot) })
}

// Evict ends the tasks of a run in all of them.
func (k kinds) Evict(run string) {
	var wg sync.WaitGroup
	for _, s := range k.stages {
		wg.Go(func() { s.Evict(run) })
	}
	wg.Wait()
}

// CrashLoop reports whether the workers of some kind keep dying. Its tasks stay
// in the queue meanwhile, and the others are run.
func (k kinds) CrashLoop() bool {
	for _, s := range k.stages {
		if s.CrashLoop() {
			return true
		}
	}
	return false
}

// Slots lists those of all kinds.
func (k kinds) Slots() (list []Slot) {
	for i, s := range k.stages {
		for _, slot := range s.Slots() {
			slot.Kind = k.patterns[i]
			list = append(list, slot)
		}
	}
	return list
}

// staffed reports whether there are the workers that a ready sidecar has.
func (a *App) staffed() bool {
	if k, several := a.pool.(kinds); several {
		return k.complete()
	}
	return a.pool.Up() >= a.wanted()
}

var _ workers = kinds{}

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
