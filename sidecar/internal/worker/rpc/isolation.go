package rpc

import (
	"context"
	"sync"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// runLone runs one task in a child of its own: it is at its last attempt, and
// the last worker or sidecar it was in died with others in it. Were it among
// neighbours again, its death would be theirs, too, and its fault would not be told
// from theirs. One that must be alone in the sidecar gets its own child, too: the
// claims are held for it for a while only (dispatch). The task's slot is then none
// of its taker's.
func (p *Pool) runLone(ctx, hard context.Context, slot int, t task.Task) {
	p.src.Update(t.SlotState(), outside(&t))
	p.aside.Go(func() { p.safe(func() { p.keepLone(ctx, hard, slot, t) }) })
}

func (p *Pool) keepLone(ctx, hard context.Context, slot int, t task.Task) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	src := &loneSource{src: p.src, t: &t, done: cancel}
	k := keeper{pool: p, src: src, slot: slot, kind: kindLone, limit: 1}
	c, err := k.start(ctx, hard)
	if err != nil {
		// The worker starts elsewhere and not here, or we are stopping. The
		// pause is for the first: the record comes back at once.
		backoff.Sleep(ctx, p.cfg.Restart.Max)
		src.Return([]task.Task{t})
		return
	}
	k.serve(ctx, hard, c)
	src.leftover()
}

// outside is how a task holds its slot that is in a child of its own.
func outside(t *task.Task) task.SlotState {
	p := t.SlotState()
	p.OutsideCapacity = true
	return p
}

// loneSource gives a child exactly one task.
type loneSource struct {
	src  Source
	done func()

	mu sync.Mutex
	t  *task.Task // until it is taken
}

// AddCapacity does nothing: the task's slot is no part of it.
func (l *loneSource) AddCapacity(int) {}

// Acquire gives the task once, and then waits.
func (l *loneSource) Acquire(ctx context.Context, _ int) ([]task.Task, error) {
	l.mu.Lock()
	t := l.t
	l.t = nil
	l.mu.Unlock()
	if t != nil && ctx.Err() == nil {
		return []task.Task{*t}, nil
	}
	if t != nil {
		l.Return([]task.Task{*t})
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

// Return passes the task back.
func (l *loneSource) Return(ts []task.Task) {
	for i := range ts { // it is one
		l.src.Update(outside(&ts[i]), ts[i].SlotState())
	}
	l.src.Return(ts)
	l.done()
}

// Update passes on how the task holds its slot.
func (l *loneSource) Update(from, to task.SlotState) { l.src.Update(from, to) }

// Release frees the slot and lets the child go.
func (l *loneSource) Release(p task.SlotState) {
	l.src.Release(p)
	l.done()
}

// ReleaseAll is Release for the one task.
func (l *loneSource) ReleaseAll(ps []task.SlotState) {
	for _, p := range ps {
		l.Release(p)
	}
}

// leftover passes back a task that the child never took.
func (l *loneSource) leftover() {
	l.mu.Lock()
	t := l.t
	l.t = nil
	l.mu.Unlock()
	if t != nil {
		l.Return([]task.Task{*t})
	}
}
