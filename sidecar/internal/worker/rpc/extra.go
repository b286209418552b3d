package rpc

import (
	"context"
	"slices"
	"time"
)

// extraIdle is how long a child that was started for a lent slot is kept when no
// slot is lent any more. Nested groups come in series, one for each task of the
// group around them, and a worker that imports its libraries first takes seconds
// to start; after a while without any, its memory is worth more.
const extraIdle = 30 * time.Second

// noteWaiting notes that n more (or fewer) running tasks only wait for others.
func (p *Pool) noteWaiting(n int) {
	p.waiting.Add(int64(n))
	notify(p.extraChanged)
}

// extraChildren is how many children the lent slots need.
func (p *Pool) extraChildren(each int) int {
	lent := min(int(p.waiting.Load()), p.cfg.MaxLent)
	return (max(lent, 0) + each - 1) / each
}

// runExtra keeps children for the slots whose tasks only wait, until ctx ends: a
// task that waits for tasks that need slots would otherwise deadlock where it has
// the only one. They are children like all others, and run any task. The source
// bounds the tasks that run by the slots that are free or lent, so that no child
// loses its slot when a task resumes. The first of them gets the slot number
// given; each runs as many tasks as any other.
func (p *Pool) runExtra(ctx, hard context.Context, slot, each int) {
	var extra []context.CancelFunc
	defer func() {
		for _, end := range extra {
			end()
		}
	}()
	grow := func(n int) {
		for len(extra) < n {
			own, end := context.WithCancel(ctx)
			k := keeper{pool: p, src: p.src, slot: slot + len(extra), kind: kindExtra, limit: each}
			p.cfg.Log.Debug("worker started for an extra slot", "slot", k.slot)
			p.aside.Go(func() { p.safe(func() { _ = k.run(own, hard) }) })
			extra = append(extra, end)
		}
	}
	shrink := func(n int) {
		for _, end := range slices.Backward(extra[n:]) {
			end()
		}
		extra = extra[:n]
	}
	idle := time.NewTimer(extraIdle)
	defer idle.Stop()
	most := 0 // needed at once since idle was started
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.extraChanged:
			n := p.extraChildren(each)
			most = max(most, n)
			grow(n)
		case <-idle.C:
			shrink(min(most, len(extra)))
			most = p.extraChildren(each)
			idle.Reset(extraIdle)
		}
	}
}
