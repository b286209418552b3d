package rpc

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// serve feeds the child until it ends, breaks, drains, has a successor or is
// told to stop, and returns when its process group is dead and all it held is
// accounted for. (Where a successor is there, it returns at once, and that is
// seen to in the background: no slot waits for a child's last long task.) It
// reports whether the child kept to the protocol to its end.
func (k *keeper) serve(ctx, hard context.Context, c *child) bool {
	cfg := &k.pool.cfg
	c.join()
	k.pool.up.Add(1)
	k.pool.enlist(c)
	feeding, stopFeeding := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		k.pool.safe(func() { c.pump(feeding, func(t task.Task) { k.pool.runLone(ctx, hard, k.slot, t) }) })
	})
	ping := time.NewTicker(cfg.PingInterval)
	defer ping.Stop()
	healthy := time.NewTimer(healthyAfter)
	defer healthy.Stop()
	worked := c.worked

	// asked: we end a child that did nothing wrong, so what it holds costs nothing.
	asked := false
	over := false
	var came chan<- error // is told whether the replacement that is being started came up
	for !over {
		requests := c.replacing
		if k.starting != nil {
			requests = nil // one replacement at a time
		}
		select {
		case came = <-requests:
			k.startReplacement(ctx, hard)
		case r := <-k.starting:
			k.starting, k.ready = nil, r.c
			came <- r.err // buffered
			// A child that may take nothing more is of no use without one, either.
			over = r.err == nil || c.isSpent()
			asked = over
		case <-worked:
			worked = nil
			k.well()
		case <-healthy.C:
			k.well()
		case <-ping.C:
			if c.ping(cfg.PingTimeout) {
				c.breakWith(fmt.Sprintf("did not answer a ping for %v while idle", cfg.PingTimeout))
			}
		case <-c.readDone():
			c.stdoutEnded()
			over = true
		case <-c.proc.Exited():
			// A process that it started, and that has left its group, may hold
			// its stdout open for as long as it likes. detach reads what is in it.
			over = true
		case <-c.broken:
			over = true
		case <-local.Leaving(c.proc):
			c.goes()
			over = true
		case <-c.drained:
			over = true
		case <-ctx.Done():
			over, asked = true, true
		}
	}
	close(c.closing)
	stopFeeding()
	wg.Wait() // nothing is written to this child any more
	c.leave()
	k.pool.up.Add(-1)
	if k.ready != nil {
		k.pool.aside.Go(func() { k.pool.safe(func() { k.part(ctx, hard, c, asked) }) })
		return true
	}
	return k.part(ctx, hard, c, asked)
}

// part ends a child that takes nothing more, gently if it was asked to go or
// said so itself, and reports whether it kept to that.
func (k *keeper) part(ctx, hard context.Context, c *child, asked bool) bool {
	defer k.pool.discharge(c)
	if local.Within(local.Leaving(c.proc), 0) {
		c.goes() // its end was noticed before its host's word, and both were there
	}
	if asked || c.isDraining() {
		asked = k.finish(ctx, hard, c)
	}
	c.cutShort()
	c.ladder(hard)
	c.detach()
	switch {
	case asked:
	case c.quit():
		c.log.Warn("worker ended", "stderr", c.tail.Last(), "reason", c.reason()+" after it had answered, without a word: "+
			"let it say $/draining before, or leave its replacement to SIDECAR_MAX_TASKS_PER_CHILD")
	default:
		c.log.Warn("worker ended", "reason", c.reason(), "stderr", c.tail.Last())
	}
	c.abandon(asked)
	close(c.over)
	return asked
}

// finish lets a child that takes nothing more end by itself: it is told to when
// it has answered all it has (P41), or at a stop, when ctx ends, at once; and it is
// waited for until hard ends. It reports whether the child kept to that.
//
// To tell it before, with a successor there, had a worker refuse the last task,
// which it had just been given and not begun: P36.
func (k *keeper) finish(ctx, hard context.Context, c *child) bool {
	tell := sync.OnceFunc(func() {
		c.out.add(func(dst []byte) []byte {
			return protocol.AppendNotification(dst, protocol.MethodShutdown, []byte("{}"))
		})
	})
	if c.idleNow() {
		notify(c.idle) // it may never have run anything
	}
	stop := ctx.Done()
	for {
		select {
		case <-stop:
			stop = nil
			tell()
		case <-c.proc.Exited():
			local.Within(c.readDone(), outputGrace) // its last answers may still be in the pipe
			return c.idleNow() || local.Excused(c.proc)
		case <-c.broken:
			return false
		case <-c.idle:
			// The last answer is in. It may now end by itself; ladder helps.
			if c.idleNow() {
				tell()
				local.AwaitExit(hard, c.proc, k.pool.cfg.KillGrace)
				return true
			}
		case <-c.readDone():
			if c.idleNow() {
				return true
			}
			c.stdoutEnded()
			return local.Within(c.proc.Exited(), 0) && local.Excused(c.proc)
		case <-hard.Done():
			return true
		}
	}
}
