package rpc

import (
	"cmp"
	"context"
	"slices"
)

// Restart asks for every child to be replaced by a fresh one and returns at once.
//
// It is one child after another, and each successor is started and has answered
// initialize before its predecessor is told to finish: no task is lost, no slot
// is without a worker for as long as a start takes, and a successor that does
// not start ends the round with the old workers at their places. There are never
// more tasks at once than slots, and one process more than usual (a few, where
// tasks outlast replacePatience).
//
// Asking again during a round makes one more of it. A stop ends it.
func (p *Pool) Restart() { notify(p.renew) }

// RestartSlot is Restart for the children of one slot. It reports whether there is
// one: false also while many others are being asked for.
func (p *Pool) RestartSlot(slot int) bool {
	if len(p.inSlot(slot)) == 0 {
		return false
	}
	select {
	case p.renewAt <- slot:
		return true
	default:
		return false
	}
}

// inSlot lists the serving children of a slot: more than one only while one
// replaces the other.
func (p *Pool) inSlot(slot int) []*child {
	return slices.DeleteFunc(p.serving(), func(c *child) bool { return c.slot != slot })
}

// renewals serves Restart and RestartSlot until ctx ends.
func (p *Pool) renewals(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.renew:
			p.renewAll(ctx, p.serving())
		case slot := <-p.renewAt:
			p.renewAll(ctx, p.inSlot(slot))
		}
	}
}

func (p *Pool) renewAll(ctx context.Context, old []*child) {
	p.cfg.Log.Info("replacing the workers one by one", "workers", len(old))
	for n, c := range old {
		if err := c.replace(ctx); err != nil {
			if ctx.Err() == nil {
				p.cfg.Log.Warn("new worker does not start: the old ones stay", "replaced", n, "error", err)
			}
			return
		}
	}
	p.cfg.Log.Info("workers are replaced", "workers", len(old))
}

// serving lists the children that have a slot of their own, by slot. A lone
// task's child is not among them: it is fresh, and gone with its task.
func (p *Pool) serving() []*child {
	p.mu.Lock()
	defer p.mu.Unlock()
	list := make([]*child, 0, len(p.children))
	for c := range p.children {
		if c.kind != kindLone && !closed(c.closing) {
			list = append(list, c)
		}
	}
	slices.SortFunc(list, func(a, b *child) int { return cmp.Compare(a.slot, b.slot) })
	return list
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
