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

// supervisor keeps the child of one slot running. Its methods are called by its own
// goroutine.
type supervisor struct {
	pool  *Pool
	src   Source
	slot  int
	role  role
	limit int // maximum number of tasks at once for its child

	tries    local.Tries      // to start the first child
	starting chan replacement // a replacement that is being started, see startReplacement
	ready    *child           // a replacement that has been started
}

// run starts, serves and restarts children until ctx ends. It returns an error only
// when no child of the pool has ever initialized: a StartError.
func (s *supervisor) run(ctx, hard context.Context) error {
	cfg := &s.pool.cfg
	pause := backoff.New(cfg.Restart)
	s.tries.Limit = cfg.StartRetries
	defer func() { s.stopReplacement(ctx, hard) }()
	for ctx.Err() == nil {
		began := time.Now()
		c, err := s.nextChild(ctx, hard)
		if err == nil {
			s.tries.Reset()
			asked := s.serve(ctx, hard, c)
			if ctx.Err() != nil {
				return nil
			}
			if time.Since(began) > healthyAfter {
				pause.Reset()
			}
			s.pool.replaced(c, asked)
			if s.ready != nil || asked && c.isUseful() {
				continue // replaced, not failed
			}
			switch {
			case asked:
			case c.exitedBySelf():
				pause.Reset() // it was useful, and the next one will be
			default:
				s.died(c.reason() + c.quoteStderr())
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if failure, ok := errors.AsType[*local.StartError](err); ok {
			if s.givesUp(err) {
				failure.Attempts = pause.Failures() + 1
				return failure
			}
			s.pool.report(cfg.Replaced, "start")
			cfg.Log.Warn("worker did not start, trying again", "slot", s.slot, "error", failure.Reason)
			if !s.tries.Bears(err) {
				s.died("did not start: " + failure.Reason)
			}
		}
		pause.Sleep(ctx)
	}
	return nil
}

// nextChild returns the child to serve next: the replacement if there is one, otherwise
// a child that it starts.
func (s *supervisor) nextChild(ctx, hard context.Context) (*child, error) {
	if c := s.takeReplacement(); c != nil {
		return c, nil
	}
	return s.start(ctx, hard)
}

// start spawns a child and waits for its answer to initialize.
func (s *supervisor) start(ctx, hard context.Context) (*child, error) {
	cfg := &s.pool.cfg
	id := processID(cfg.WorkerID, s.slot)
	p, err := s.spawn(ctx, id)
	if err != nil {
		return nil, &local.StartError{Worker: cfg.Name, Reason: local.StartReason(err), Err: err}
	}
	c := newChild(s, p)
	if err := c.attach(); err != nil {
		p.Signal(syscall.SIGKILL)
		return nil, &local.StartError{Worker: cfg.Name, Reason: err.Error(), Err: err}
	}
	s.pool.track(c)
	c.out.add(func(dst []byte) []byte {
		params, _ := json.Marshal(protocol.InitializeParams{
			ProtocolVersion: protocol.Version,
			Sidecar:         protocol.Peer{Name: "graflow-sidecar", Version: cfg.Version},
			WorkerID:        cfg.WorkerID, Slot: s.slot, ProcessID: id,
			Limits: protocol.Limits{MaxMessageBytes: cfg.MaxMessageBytes},
		})
		return protocol.AppendRequest(dst, initializeID, protocol.MethodInitialize, params)
	})
	if reason := s.handshake(ctx, hard, c); reason != "" {
		// The child has no task, so that it may be killed as soon as ctx ends, which
		// is at a stop: a worker that is importing its libraries would otherwise
		// delay the stop of an idle sidecar.
		byItself := local.Within(p.Exited(), 0)
		c.terminate(ctx)
		c.detach()
		return nil, s.startFailure(c, reason, byItself)
	}
	return c, nil
}

// spawn starts a child's process with the given id. For a remote worker it waits until
// a host has connected, or ctx ends.
func (s *supervisor) spawn(ctx context.Context, id string) (local.Process, error) {
	cfg := &s.pool.cfg
	if cfg.Remote == nil {
		cmd := exec.Command(cfg.Command[0], cfg.Command[1:]...)
		cmd.Dir = cfg.Dir
		cmd.Env = slices.Clip(cfg.Env)
		if cfg.RefreshEnv != nil {
			cmd.Env = append(cmd.Env, cfg.RefreshEnv()...)
		}
		cmd.Env = append(cmd.Env, local.IDVariable+"="+id)
		cmd.ExtraFiles = cfg.Files
		return s.pool.start(cmd)
	}
	if s.role == roleIsolated {
		// The task is already claimed: if the worker has just disconnected, another
		// sidecar should run the task.
		waiting, done := context.WithTimeout(ctx, cfg.StartTimeout)
		defer done()
		ctx = waiting
	}
	return cfg.Remote(ctx, id)
}

// hintAfter is how long a worker that never answered may leave initialize unanswered
// before the log says what may be wrong with it.
const hintAfter = 3 * time.Second

// What is most often wrong with a program that does not answer initialize. Workers in
// another container have no mode exec.
const (
	flushHint = "a worker of the protocol answers initialize with one line on stdout, and flushes it"
	execHint  = "; a program that takes one task on stdin and ends needs --mode exec (with --worker, exec: before its command)"
)

// mayBeNoWorker reports whether the program may not speak the protocol: it is not the
// adapter, and no worker of the pool has started.
func (s *supervisor) mayBeNoWorker() bool {
	return !s.pool.cfg.Adapter && !s.pool.started.Load()
}

// advice is the hint in short, for an error about a program that may not speak the
// protocol, or an empty string.
func (s *supervisor) advice() string {
	switch {
	case !s.mayBeNoWorker():
		return ""
	case s.pool.cfg.Remote != nil:
		return " (does it flush its stdout?)"
	default:
		return " (does it flush its stdout? does it need --mode exec?)"
	}
}

// adviseSlow logs the hint for a worker that is late with its answer, for one slot.
func (s *supervisor) adviseSlow() {
	cfg := &s.pool.cfg
	if !s.mayBeNoWorker() || s.slot != cfg.FirstSlot {
		return
	}
	hint := flushHint
	if cfg.Remote == nil {
		hint += execHint
	}
	cfg.Log.Warn("worker has not answered initialize yet", "slot", s.slot, "after", hintAfter, "hint", hint)
}

// handshake waits for the answer to initialize. It returns what is wrong with the
// answer, or an empty string.
func (s *supervisor) handshake(ctx, hard context.Context, c *child) string {
	cfg := &s.pool.cfg
	timeout := time.NewTimer(cfg.StartTimeout)
	defer timeout.Stop()
	slow := time.AfterFunc(hintAfter, s.adviseSlow)
	defer slow.Stop()
	var m protocol.Message
	select {
	case m = <-c.answered:
	case <-c.readDone():
		// The worker may have written its answer and then ended.
		select {
		case m = <-c.answered:
		default:
			if !local.Within(c.proc.Exited(), time.Second) {
				return "it closed its stdout before it answered initialize" + c.quoteStdout() + s.advice()
			}
			reason := "it " + c.proc.Fate() + " before it answered initialize" + c.quoteStdout()
			if e := local.EndingOf(c.proc); e.Code == 0 && e.Signal == 0 { // no failure of a program that has done its work
				reason += s.advice()
			}
			return reason
		}
	case <-c.broken:
		return "it " + c.fault + c.quoteStdout() + s.advice()
	case <-timeout.C:
		return fmt.Sprintf("it did not answer initialize within %v", cfg.StartTimeout) + c.quoteStdout() + s.advice()
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
	inputs, problem := parseInputs(res.Inputs)
	if problem != "" {
		return problem
	}
	each := max(res.Concurrency, 1)
	c.mu.Lock()
	c.inputs = inputs
	c.limit = min(each, s.limit)
	if s.role != roleIsolated {
		c.recycle = newRecycleState(cfg, time.Now())
	}
	c.mu.Unlock()
	s.pool.started.Store(true)
	select {
	case s.pool.sized <- each:
	default:
	}
	c.log.Info("worker ready", "worker", res.Worker.Name, "worker_version", res.Worker.Version, "concurrency", c.limit)
	return ""
}

// startFailure returns the error of a worker that did not answer initialize. byItself
// says that the process ended before the sidecar ended it.
func (s *supervisor) startFailure(c *child, reason string, byItself bool) *local.StartError {
	cfg := &s.pool.cfg
	failure := &local.StartError{Worker: cfg.Name, Reason: reason + c.quoteStderr()}
	if !byItself || cfg.Remote != nil {
		return failure
	}
	const notFound = 127 // the exit status of env and of shells for a missing command
	if local.Passes(c.proc, c.tail.Last()) {
		failure.Err = local.ErrPasses
	} else if path, err := exec.LookPath(cfg.Command[0]); err == nil && local.EndingOf(c.proc).Code == notFound {
		if err := local.CheckCommand(path, cfg.Dir, cfg.Env); err != nil {
			failure.Reason = err.Error()
		}
	}
	return failure
}

// givesUp records that a worker did not start, and reports whether the sidecar ends
// because of that. It does not end because of a remote worker, whose own container
// reports the failure and is restarted.
func (s *supervisor) givesUp(err error) bool {
	return s.tries.Failed(err) && s.pool.cfg.Remote == nil && !s.pool.started.Load()
}

// serve gives the child tasks until it ends, breaks, drains, is replaced or ctx ends.
// It returns when the process group is dead and every task has an outcome; if there is
// a replacement, it returns at once and that happens in the background, so that no slot
// waits for the last long task of the old child. It reports whether the child kept to
// the protocol to its end.
func (s *supervisor) serve(ctx, hard context.Context, c *child) bool {
	cfg := &s.pool.cfg
	c.addCapacity()
	s.pool.up.Add(1)
	s.pool.addServing(c)
	feeding, stopFeeding := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		s.pool.safe(func() { c.pump(feeding, func(t task.Task) { s.pool.runIsolated(ctx, hard, s.slot, t) }) })
	})
	ping := time.NewTicker(cfg.PingInterval)
	defer ping.Stop()
	healthy := time.NewTimer(healthyAfter)
	defer healthy.Stop()
	worked := c.worked

	// asked says that the sidecar ends a child without a fault: its tasks are then
	// returned without an attempt used.
	asked := false
	over := false
	var came chan<- error // gets the result of the replacement that is being started
	for !over {
		requests := c.replacing
		if s.starting != nil {
			requests = nil // one replacement at a time
		}
		select {
		case came = <-requests:
			s.startReplacement(ctx, hard)
		case r := <-s.starting:
			s.starting, s.ready = nil, r.c
			came <- r.err // buffered
			// A child that has used its quota of tasks ends also without a replacement.
			over = r.err == nil || c.quotaUsed()
			asked = over
		case <-worked:
			worked = nil
			s.recovered()
		case <-healthy.C:
			s.recovered()
		case <-ping.C:
			if c.ping(cfg.PingTimeout) {
				c.breakWith(fmt.Sprintf("did not answer a ping for %v while idle", cfg.PingTimeout))
			}
		case <-c.readDone():
			c.stdoutEnded()
			over = true
		case <-c.proc.Exited():
			// A process that has left the child's group may keep its stdout open for
			// any time. detach reads what is left in the pipe.
			over = true
		case <-c.broken:
			over = true
		case <-local.Leaving(c.proc):
			c.drain()
			over = true
		case <-c.drained:
			over = true
		case <-ctx.Done():
			over, asked = true, true
		}
	}
	close(c.closing)
	stopFeeding()
	wg.Wait() // no more tasks are written to this child
	c.removeCapacity()
	s.pool.up.Add(-1)
	if s.ready != nil {
		s.pool.aside.Go(func() { s.pool.safe(func() { s.endChild(ctx, hard, c, asked) }) })
		return true
	}
	return s.endChild(ctx, hard, c, asked)
}

// recovered records that the child has answered a task or has lived for healthyAfter.
func (s *supervisor) recovered() {
	if s.role == roleIsolated {
		return
	}
	if d := s.pool.crashLoop.recovered(s.slot); d > 0 {
		s.pool.cfg.Log.Info("the crash loop is over", "after", d.Round(time.Millisecond).String())
	}
}

// replacement is a child that is started while its predecessor serves, or the error.
type replacement struct {
	c   *child
	err error
}

// startReplacement starts a child in the background; serve or takeReplacement receives
// it from s.starting.
func (s *supervisor) startReplacement(ctx, hard context.Context) {
	started := make(chan replacement, 1)
	s.starting = started
	go func() {
		r := replacement{err: errors.New("the sidecar itself failed")} // if start panics
		defer func() { started <- r }()
		s.pool.safe(func() { r.c, r.err = s.start(ctx, hard) })
	}()
}

// takeReplacement returns the replacement, and waits for one that is being started. It
// returns nil if there is none, or it did not start.
func (s *supervisor) takeReplacement() *child {
	c := s.ready
	s.ready = nil
	if s.starting != nil {
		c = (<-s.starting).c
		s.starting = nil
	}
	return c
}

// stopReplacement ends a replacement that does not serve yet when the pool stops. ctx
// has ended.
func (s *supervisor) stopReplacement(ctx, hard context.Context) {
	if c := s.takeReplacement(); c != nil {
		s.serve(ctx, hard, c)
	}
}

// endChild ends a child that takes no more tasks: gently if it was asked to end, or has
// announced its end. It reports whether the child kept to the protocol.
func (s *supervisor) endChild(ctx, hard context.Context, c *child, asked bool) bool {
	defer s.pool.removeServing(c)
	if local.Within(local.Leaving(c.proc), 0) {
		c.drain() // both the end and the announcement of its host have arrived
	}
	if asked || c.isDraining() {
		asked = s.awaitEnd(ctx, hard, c)
	}
	c.cutShort()
	c.terminate(hard)
	c.detach()
	switch {
	case asked:
	case c.exitedBySelf():
		c.log.Warn("worker ended", "stderr", c.tail.Last(), "reason", c.reason()+" after it had answered, without a word: "+
			"let it say $/draining before, or leave its replacement to SIDECAR_MAX_TASKS_PER_CHILD")
	default:
		c.log.Warn("worker ended", "reason", c.reason(), "stderr", c.tail.Last())
	}
	c.abandon(asked)
	close(c.over)
	return asked
}

// awaitEnd waits for a child that takes no more tasks to end by itself, until hard
// ends. It sends shutdown when the child has answered all its tasks (P41), or at once
// at a stop, when ctx ends. It reports whether the child kept to the protocol.
//
// A shutdown before the last answer, when there is a replacement, made workers refuse
// a task that they had just received and not begun (P36).
func (s *supervisor) awaitEnd(ctx, hard context.Context, c *child) bool {
	tell := sync.OnceFunc(func() {
		c.out.add(func(dst []byte) []byte {
			return protocol.AppendNotification(dst, protocol.MethodShutdown, []byte("{}"))
		})
	})
	if c.isIdle() {
		notify(c.idle) // it may never have run a task
	}
	stop := ctx.Done()
	for {
		select {
		case <-stop:
			stop = nil
			tell()
		case <-c.proc.Exited():
			local.Within(c.readDone(), outputGrace) // its last answers may still be in the pipe
			return c.isIdle() || local.Excused(c.proc)
		case <-c.broken:
			return false
		case <-c.idle:
			// The last answer has arrived. The worker may now end by itself; otherwise
			// terminate ends it.
			if c.isIdle() {
				tell()
				local.AwaitExit(hard, c.proc, s.pool.cfg.KillGrace)
				return true
			}
		case <-c.readDone():
			if c.isIdle() {
				return true
			}
			c.stdoutEnded()
			return local.Within(c.proc.Exited(), 0) && local.Excused(c.proc)
		case <-hard.Done():
			return true
		}
	}
}

// died records the death of the child, for the detection of crash loops.
func (s *supervisor) died(why string) {
	p := s.pool
	if s.role != roleRegular || !p.started.Load() || !p.crashLoop.died(s.slot) {
		return
	}
	err := &CrashLoopError{Worker: p.cfg.Name, Deaths: crashesInARow, Last: why}
	if p.cfg.CrashLoopExit {
		p.fail(err)
		return
	}
	p.cfg.Log.Error("crash loop: not ready until a worker keeps running", "error", err.Error())
}
