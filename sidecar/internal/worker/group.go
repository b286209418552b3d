package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
)

// Group is the worker stage of a sidecar with several kinds of worker: one pool for
// each kind.
type Group struct {
	Patterns []string
	Stages   []Pool
	// Failed is called when a pool has ended by itself.
	Failed func()
}

// Run runs all pools. The failure of one stops the others, which finish their tasks as
// at a stop of the sidecar.
func (g Group) Run(soft, hard context.Context) error {
	ctx, stop := context.WithCancel(soft)
	defer stop()
	errs := make([]error, len(g.Stages))
	var wg sync.WaitGroup
	for i, s := range g.Stages {
		wg.Go(func() {
			errs[i] = recoverpanic.Do(func() error { return s.Run(ctx, hard) })
			if errs[i] != nil && soft.Err() == nil {
				errs[i] = fmt.Errorf("tasks %s: %w", g.Patterns[i], errs[i])
				g.Failed()
				stop()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Up returns the number of workers of all kinds that are up.
func (g Group) Up() (n int) {
	for _, s := range g.Stages {
		n += s.Up()
	}
	return n
}

// Complete reports whether every kind has a worker that is up.
func (g Group) Complete() bool {
	for _, s := range g.Stages {
		if s.Up() == 0 {
			return false
		}
	}
	return true
}

// Restart replaces the workers of each kind one by one.
func (g Group) Restart() {
	for _, s := range g.Stages {
		s.Restart()
	}
}

// RestartSlot replaces the workers of one slot, of whichever kind.
func (g Group) RestartSlot(slot int) bool {
	return slices.ContainsFunc(g.Stages, func(s Pool) bool { return s.RestartSlot(slot) })
}

// Evict ends the tasks of a run in all pools.
func (g Group) Evict(run string) {
	var wg sync.WaitGroup
	for _, s := range g.Stages {
		wg.Go(func() { s.Evict(run) })
	}
	wg.Wait()
}

// CrashLoop reports whether the workers of any kind keep dying. The tasks of that kind
// stay in the queue; those of the other kinds run.
func (g Group) CrashLoop() bool {
	for _, s := range g.Stages {
		if s.CrashLoop() {
			return true
		}
	}
	return false
}

// Slots returns the slots of all kinds.
func (g Group) Slots() (list []Slot) {
	for i, s := range g.Stages {
		for _, slot := range s.Slots() {
			slot.Kind = g.Patterns[i]
			list = append(list, slot)
		}
	}
	return list
}
