package rpc

import (
	"context"
	"sync"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// runIsolated runs one task in a child of its own. The task is at its last attempt, and
// its last worker or sidecar died with other tasks in it: in a shared child its death
// would end other tasks again, and could not be attributed. A task that must be alone
// in the sidecar also gets its own child, because claims are blocked for it for a
// bounded time only (dispatch). The slot of the task is then not one of the child that
// acquired it.
func (p *Pool) runIsolated(ctx, hard context.Context, slot int, t task.Task) {
	p.src.Update(t.SlotState(), outsideCapacity(&t))
	p.aside.Go(func() { p.safe(func() { p.serveIsolated(ctx, hard, slot, t) }) })
}

func (p *Pool) serveIsolated(ctx, hard context.Context, slot int, t task.Task) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	src := &isolatedSource{src: p.src, t: &t, done: cancel}
	s := supervisor{pool: p, src: src, slot: slot, role: roleIsolated, limit: 1}
	c, err := s.start(ctx, hard)
	if err != nil {
		// The worker does not start here, or the pool stops. Without the pause the
		// record would be claimed again at once.
		backoff.Sleep(ctx, p.cfg.Restart.Max)
		src.Return([]task.Task{t})
		return
	}
	s.serve(ctx, hard, c)
	src.returnUntaken()
}

// outsideCapacity returns the slot state of a task that has a child of its own.
func outsideCapacity(t *task.Task) task.SlotState {
	p := t.SlotState()
	p.OutsideCapacity = true
	return p
}

// isolatedSource is the Source of a child that runs one task.
type isolatedSource struct {
	src  Source
	done func()

	mu sync.Mutex
	t  *task.Task // nil once it is taken
}

// AddCapacity does nothing: the slot of the task is outside the capacity.
func (s *isolatedSource) AddCapacity(int) {}

// Acquire returns the task once. Later calls wait until ctx ends.
func (s *isolatedSource) Acquire(ctx context.Context, _ int) ([]task.Task, error) {
	s.mu.Lock()
	t := s.t
	s.t = nil
	s.mu.Unlock()
	if t != nil && ctx.Err() == nil {
		return []task.Task{*t}, nil
	}
	if t != nil {
		s.Return([]task.Task{*t})
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// Return returns the task and ends the child.
func (s *isolatedSource) Return(ts []task.Task) {
	for i := range ts { // one task
		s.src.Update(outsideCapacity(&ts[i]), ts[i].SlotState())
	}
	s.src.Return(ts)
	s.done()
}

// Update changes the slot state of the task.
func (s *isolatedSource) Update(from, to task.SlotState) { s.src.Update(from, to) }

// Release frees the slot of the task and ends the child.
func (s *isolatedSource) Release(p task.SlotState) {
	s.src.Release(p)
	s.done()
}

// ReleaseAll frees the slot of the one task and ends the child.
func (s *isolatedSource) ReleaseAll(ps []task.SlotState) {
	for _, p := range ps {
		s.Release(p)
	}
}

// returnUntaken returns a task that the child never acquired.
func (s *isolatedSource) returnUntaken() {
	s.mu.Lock()
	t := s.t
	s.t = nil
	s.mu.Unlock()
	if t != nil {
		s.Return([]task.Task{*t})
	}
}
