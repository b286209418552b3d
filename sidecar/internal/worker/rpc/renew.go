package rpc

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"
)

// renewPatience is how long a child that is being replaced may go on with what
// it has before the next one's turn comes: one task of an hour must not keep
// the other workers old for an hour.
const renewPatience = 10 * time.Second

// Renew asks for every child to be replaced by a fresh one and returns at once.
//
// It is one child after another, and each successor is started and has answered
// initialize before its predecessor is told to finish: no task is lost, no slot
// is without a worker for as long as a start takes, and a successor that does
// not start ends the round with the old workers at their places. There are never
// more tasks at once than slots, and one process more than usual (a few, where
// tasks outlast renewPatience).
//
// Asking again during a round makes one more of it. A stop ends it.
func (p *Pool) Renew() { notify(p.renew) }

// RenewSlot is Renew for the children of one slot. It reports whether there is
// one: false also while many others are being asked for.
func (p *Pool) RenewSlot(slot int) bool {
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

// renewals serves Renew and RenewSlot until ctx ends.
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

// succeed has the child's keeper start a successor, and returns when it is
// there. It fails when the successor did not start or ctx has ended. Of several
// who want the same child replaced, one does it. A child that ends by itself is
// replaced as any other that does.
func (c *child) succeed(ctx context.Context) error {
	select {
	case <-c.turn:
	case <-c.closing:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { c.turn <- struct{}{} }()
	if c.inherited.Load() {
		return nil
	}
	notify(c.renew)
	select {
	case err := <-c.succeeded:
		return err
	case <-c.closing:
		select {
		case err := <-c.succeeded:
			return err
		default:
			return nil
		}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// replace also waits until the child is gone, for renewPatience at most once
// the successor is there.
func (c *child) replace(ctx context.Context) error {
	if err := c.succeed(ctx); err != nil {
		return err
	}
	patience := time.NewTimer(renewPatience)
	defer patience.Stop()
	select {
	case <-c.over:
	case <-patience.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// heir is a successor that was started while its predecessor serves.
type heir struct {
	c   *child
	err error
}

// beget starts a successor in the background; its keeper reads k.heir.
func (k *keeper) beget(ctx, hard context.Context) {
	successor := make(chan heir, 1)
	k.heir = successor
	go func() {
		h := heir{err: errors.New("the sidecar itself failed")} // if start panics
		defer func() { successor <- h }()
		k.pool.safe(func() { h.c, h.err = k.start(ctx, hard) })
	}()
}

// next gives the child to serve next: the successor if there is one, else one
// that is started now.
func (k *keeper) next(ctx, hard context.Context) (*child, error) {
	if c := k.takeHeir(); c != nil {
		return c, nil
	}
	return k.start(ctx, hard)
}

// takeHeir waits for a successor that is being started; nil if none is, or it
// did not start.
func (k *keeper) takeHeir() *child {
	c := k.ready
	k.ready = nil
	if k.heir != nil {
		c = (<-k.heir).c
		k.heir = nil
	}
	return c
}

// dismiss ends a successor that a stop found waiting. ctx has ended.
func (k *keeper) dismiss(ctx, hard context.Context) {
	if c := k.takeHeir(); c != nil {
		k.serve(ctx, hard, c)
	}
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
