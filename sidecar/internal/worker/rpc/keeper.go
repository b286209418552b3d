package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// keeper keeps one slot's child alive.
type keeper struct {
	pool  *Pool
	src   Source
	slot  int
	kind  kind
	limit int // most tasks at once for this child

	tries    local.Tries      // to start a first child
	starting chan replacement // one that is being started, see startReplacement
	ready    *child           // one that was
}

// run starts, serves and restarts children until ctx ends. It fails only with
// a StartError, when no child of the pool has ever initialized.
func (k *keeper) run(ctx, hard context.Context) error {
	cfg := &k.pool.cfg
	pause := backoff.New(cfg.Restart)
	k.tries.Limit = cfg.StartRetries
	defer func() { k.stopReplacement(ctx, hard) }()
	for ctx.Err() == nil {
		began := time.Now()
		c, err := k.next(ctx, hard)
		if err == nil {
			k.tries.Reset()
			asked := k.serve(ctx, hard, c)
			if ctx.Err() != nil {
				return nil
			}
			if time.Since(began) > healthyAfter {
				pause.Reset()
			}
			k.pool.replaced(c, asked)
			if k.ready != nil || asked && c.isUseful() {
				continue // no failure, but a successor's turn
			}
			switch {
			case asked:
			case c.quit():
				pause.Reset() // it is well, and a new one will be
			default:
				k.died(c.reason() + c.lastWords())
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if failure, ok := errors.AsType[*local.StartError](err); ok {
			if k.givesUp(err) {
				failure.Attempts = pause.Failures() + 1
				return failure
			}
			k.pool.tell(cfg.Replaced, "start")
			cfg.Log.Warn("worker did not start, trying again", "slot", k.slot, "error", failure.Reason)
			if !k.tries.Bears(err) {
				k.died("did not start: " + failure.Reason)
			}
		}
		pause.Sleep(ctx)
	}
	return nil
}

// next returns the child to serve next: the replacement if there is one, else one
// that is started now.
func (k *keeper) next(ctx, hard context.Context) (*child, error) {
	if c := k.takeReplacement(); c != nil {
		return c, nil
	}
	return k.start(ctx, hard)
}

// start spawns a child and waits for its answer to initialize.
func (k *keeper) start(ctx, hard context.Context) (*child, error) {
	cfg := &k.pool.cfg
	id := processID(cfg.WorkerID, k.slot)
	p, err := k.spawn(ctx, id)
	if err != nil {
		return nil, &local.StartError{Worker: cfg.Name, Reason: local.StartReason(err), Err: err}
	}
	c := newChild(k, p)
	if err := c.attach(); err != nil {
		p.Signal(syscall.SIGKILL)
		return nil, &local.StartError{Worker: cfg.Name, Reason: err.Error(), Err: err}
	}
	k.pool.born(c)
	c.out.add(func(dst []byte) []byte {
		params, _ := json.Marshal(protocol.InitializeParams{
			ProtocolVersion: protocol.Version,
			Sidecar:         protocol.Peer{Name: "graflow-sidecar", Version: cfg.Version},
			WorkerID:        cfg.WorkerID, Slot: k.slot, ProcessID: id,
			Limits: protocol.Limits{MaxMessageBytes: cfg.MaxMessageBytes},
		})
		return protocol.AppendRequest(dst, initializeID, protocol.MethodInitialize, params)
	})
	if reason := k.handshake(ctx, hard, c); reason != "" {
		// It holds no task: there is nothing to be gentle for. (ctx is over if
		// we stop; a worker that is just importing its libraries would
		// otherwise keep an idle stop waiting.)
		byItself := local.Within(p.Exited(), 0)
		c.ladder(ctx)
		c.detach()
		return nil, k.startFailure(c, reason, byItself)
	}
	return c, nil
}

// spawn starts a child's process with the given id. For a remote worker it waits,
// for as long as ctx allows, until a host has connected.
func (k *keeper) spawn(ctx context.Context, id string) (local.Process, error) {
	cfg := &k.pool.cfg
	if cfg.Remote == nil {
		cmd := exec.Command(cfg.Command[0], cfg.Command[1:]...)
		cmd.Dir = cfg.Dir
		cmd.Env = slices.Clip(cfg.Env)
		if cfg.Renewed != nil {
			cmd.Env = append(cmd.Env, cfg.Renewed()...)
		}
		cmd.Env = append(cmd.Env, local.IDVariable+"="+id)
		cmd.ExtraFiles = cfg.Extra
		return k.pool.start(cmd)
	}
	if k.kind == kindLone {
		// Its task is ours already: where the worker has just gone it is better
		// off with another sidecar.
		waiting, done := context.WithTimeout(ctx, cfg.StartTimeout)
		defer done()
		ctx = waiting
	}
	return cfg.Remote(ctx, id)
}

// handshake waits for the answer to initialize and returns what is wrong with
// it, or nothing.
func (k *keeper) handshake(ctx, hard context.Context, c *child) string {
	cfg := &k.pool.cfg
	timeout := time.NewTimer(cfg.StartTimeout)
	defer timeout.Stop()
	var m protocol.Message
	select {
	case m = <-c.answered:
	case <-c.readDone():
		// The answer may have been the last thing that it wrote.
		select {
		case m = <-c.answered:
		default:
			if !local.Within(c.proc.Exited(), time.Second) {
				return "it closed its stdout before it answered initialize" + c.sawInstead()
			}
			return "it " + c.proc.Fate() + " before it answered initialize" + c.sawInstead()
		}
	case <-c.broken:
		return "it " + c.fault + c.sawInstead()
	case <-timeout.C:
		return fmt.Sprintf("it did not answer initialize within %v", cfg.StartTimeout) + c.sawInstead()
	case <-ctx.Done():
		return "stopped while starting"
	case <-hard.Done():
		return "stopped while starting"
	}
	if m.Error != nil {
		return fmt.Sprintf("it refused to start: %s", m.Error.Message)
	}
	var res protocol.InitializeResult
	if err := json.Unmarshal(m.Result, &res); err != nil {
		return fmt.Sprintf("its answer to initialize cannot be read: %v", err)
	}
	if res.ProtocolVersion < 1 || res.ProtocolVersion > protocol.Version {
		return fmt.Sprintf("it speaks version %d of the protocol, and this sidecar speaks 1 to %d", res.ProtocolVersion, protocol.Version)
	}
	inputs, problem := declared(res.Inputs)
	if problem != "" {
		return problem
	}
	each := max(res.Concurrency, 1)
	c.mu.Lock()
	c.inputs = inputs
	c.limit = min(each, k.limit)
	if k.kind != kindLone {
		c.recycle = newRecycleState(cfg, time.Now())
	}
	c.mu.Unlock()
	k.pool.started.Store(true)
	select {
	case k.pool.sized <- each:
	default:
	}
	c.log.Info("worker ready", "worker", res.Worker.Name, "worker_version", res.Worker.Version, "concurrency", c.limit)
	return ""
}

// startFailure is the error of a worker that did not answer initialize. byItself says
// that it ended before the sidecar ended it.
func (k *keeper) startFailure(c *child, reason string, byItself bool) *local.StartError {
	cfg := &k.pool.cfg
	failure := &local.StartError{Worker: cfg.Name, Reason: reason + c.lastWords()}
	if !byItself || cfg.Remote != nil {
		return failure
	}
	const notFound = 127 // of env and of shells
	if local.Passes(c.proc, c.tail.Last()) {
		failure.Err = local.ErrPasses
	} else if path, err := exec.LookPath(cfg.Command[0]); err == nil && local.EndingOf(c.proc).Code == notFound {
		if err := local.CheckCommand(path, cfg.Dir, cfg.Env); err != nil {
			failure.Reason = err.Error()
		}
	}
	return failure
}

// givesUp notes that a worker did not start and reports whether the sidecar ends with
// that. One that runs elsewhere is not ours to give up: its own container says so, and
// is restarted.
func (k *keeper) givesUp(err error) bool {
	return k.tries.Failed(err) && k.pool.cfg.Remote == nil && !k.pool.started.Load()
}

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

// well notes that the keeper's worker answered a task or has lived for a while.
func (k *keeper) well() {
	if k.kind == kindLone {
		return
	}
	if d := k.pool.crashes.well(k.slot); d > 0 {
		k.pool.cfg.Log.Info("the crash loop is over", "after", d.Round(time.Millisecond).String())
	}
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

// died notes a death of the keeper's worker, and why.
func (k *keeper) died(why string) {
	p := k.pool
	if k.kind != kindSlot || !p.started.Load() || !p.crashes.died(k.slot) {
		return
	}
	err := &CrashLoopError{Worker: p.cfg.Name, Deaths: crashesInARow, Last: why}
	if p.cfg.CrashLoopExit {
		p.fail(err)
		return
	}
	p.cfg.Log.Error("crash loop: not ready until a worker keeps running", "error", err.Error())
}
