package rpc

import (
	"context"
	"errors"
	"time"
)

// replacePatience is how long a child that is being replaced may go on with what
// it has before the next one's turn comes: one task of an hour must not keep
// the other workers old for an hour.
const replacePatience = 10 * time.Second

// requestReplacement has the child's keeper start a replacement, and returns when it is
// there. It fails when the replacement did not start or ctx has ended. Of several
// callers one is served at a time: the others wait until the child takes nothing more,
// or try next. A child that ends by itself is replaced as any other that does.
func (c *child) requestReplacement(ctx context.Context) error {
	came := make(chan error, 1)
	select {
	case c.replacing <- came:
	case <-c.closing:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-came:
		return err
	case <-c.closing:
		select {
		case err := <-came:
			return err
		default:
			return nil
		}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// replace is requestReplacement and also waits until the child is gone, for
// replacePatience at most once the replacement is there.
func (c *child) replace(ctx context.Context) error {
	if err := c.requestReplacement(ctx); err != nil {
		return err
	}
	patience := time.NewTimer(replacePatience)
	defer patience.Stop()
	select {
	case <-c.over:
	case <-patience.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// replacement is a child that was started while its predecessor serves.
type replacement struct {
	c   *child
	err error
}

// startReplacement starts a child in the background; the keeper reads k.starting.
func (k *keeper) startReplacement(ctx, hard context.Context) {
	started := make(chan replacement, 1)
	k.starting = started
	go func() {
		r := replacement{err: errors.New("the sidecar itself failed")} // if start panics
		defer func() { started <- r }()
		k.pool.safe(func() { r.c, r.err = k.start(ctx, hard) })
	}()
}

// next returns the child to serve next: the replacement if there is one, else one
// that is started now.
func (k *keeper) next(ctx, hard context.Context) (*child, error) {
	if c := k.takeReplacement(); c != nil {
		return c, nil
	}
	return k.start(ctx, hard)
}

// takeReplacement waits for a replacement that is being started; nil if none is, or it
// did not start.
func (k *keeper) takeReplacement() *child {
	c := k.ready
	k.ready = nil
	if k.starting != nil {
		c = (<-k.starting).c
		k.starting = nil
	}
	return c
}

// stopReplacement ends a replacement that a stop found waiting. ctx has ended.
func (k *keeper) stopReplacement(ctx, hard context.Context) {
	if c := k.takeReplacement(); c != nil {
		k.serve(ctx, hard, c)
	}
}
