package process

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
	"github.com/graflow/graflow-sidecar/sidecar/internal/subproc"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// keeper keeps one slot's child alive.
type keeper struct {
	pool  *Pool
	src   Source
	slot  int
	limit int // most tasks at once for this child

	heir  chan heir // a successor that is being started, see Renew
	ready *child    // one that was
}

// run starts, serves and restarts children until ctx ends. It fails only with
// a StartError, when no child of the pool has ever initialized.
func (k *keeper) run(ctx, hard context.Context) error {
	cfg := &k.pool.cfg
	pause := backoff.New(cfg.Restart)
	defer func() { k.dismiss(ctx, hard) }()
	for ctx.Err() == nil {
		began := time.Now()
		c, err := k.next(ctx, hard)
		if err == nil {
			k.serve(ctx, hard, c)
			if ctx.Err() != nil {
				return nil
			}
			if time.Since(began) > healthyAfter {
				pause.Reset()
			}
			if k.ready != nil {
				continue
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if failure, ok := errors.AsType[*subproc.StartError](err); ok {
			if pause.Failures() >= cfg.StartRetries && !k.pool.started.Load() {
				failure.Attempts = pause.Failures() + 1
				return failure
			}
			cfg.Log.Warn("worker did not start, trying again", "slot", k.slot, "error", failure.Reason)
		}
		pause.Sleep(ctx)
	}
	return nil
}

// start spawns a child and waits for its answer to initialize.
func (k *keeper) start(ctx, hard context.Context) (*child, error) {
	cfg := &k.pool.cfg
	cmd := exec.Command(cfg.Command[0], cfg.Command[1:]...)
	cmd.Dir = cfg.Dir
	id := processID(cfg.WorkerID, k.slot)
	cmd.Env = append(slices.Clip(cfg.Env), "SIDECAR_PROCESS_ID="+id)
	cmd.ExtraFiles = cfg.Extra
	p, err := k.pool.start(cmd)
	if err != nil {
		return nil, &subproc.StartError{Worker: cfg.Name, Reason: subproc.StartReason(err)}
	}
	c := newChild(cfg, k.slot, p, k.src, k.pool.sink, k.pool.isEvicted)
	c.safe, c.asking = k.pool.safe, &k.pool.asking
	if err := c.attach(); err != nil {
		p.Signal(syscall.SIGKILL)
		return nil, &subproc.StartError{Worker: cfg.Name, Reason: err.Error()}
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
		c.ladder(ctx)
		c.detach()
		if last := c.tail.Last(); last != "" {
			reason += "; its last line on stderr: " + last
		}
		return nil, &subproc.StartError{Worker: cfg.Name, Reason: reason}
	}
	return c, nil
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
			if !subproc.Within(c.proc.Exited(), time.Second) {
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
	c.mu.Unlock()
	k.pool.started.Store(true)
	select {
	case k.pool.sized <- each:
	default:
	}
	c.log.Info("worker ready", "worker", res.Worker.Name, "worker_version", res.Worker.Version, "concurrency", c.limit)
	return ""
}

// sawInstead quotes what the worker printed in place of the protocol.
func (c *child) sawInstead() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.firstLine == "" {
		return ""
	}
	const most = 120
	line := []rune(c.firstLine)
	if len(line) > most {
		line = append(line[:most], '…')
	}
	return fmt.Sprintf("; on stdout it printed %q", string(line))
}

// serve feeds the child until it ends, breaks, drains or is told to stop, and
// returns when its process group is dead and all it held is accounted for.
func (k *keeper) serve(ctx, hard context.Context, c *child) {
	cfg := &k.pool.cfg
	k.src.AddCapacity(c.limit)
	k.pool.up.Add(1)
	k.pool.enlist(c)
	defer k.pool.discharge(c)
	feeding, stopFeeding := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		c.safe(func() { c.pump(feeding, func(t task.Task) { k.pool.runLone(ctx, hard, k.slot, t) }) })
	})
	ping := time.NewTicker(cfg.PingInterval)
	defer ping.Stop()

	// asked: we end a child that did nothing wrong, so what it holds costs nothing.
	asked := false
	over := false
	for !over {
		select {
		case <-c.renew:
			k.beget(ctx, hard)
		case h := <-k.heir:
			k.heir, k.ready = nil, h.c
			c.succeeded <- h.err
			over, asked = h.err == nil, h.err == nil
		case <-ping.C:
			if c.ping(cfg.PingTimeout) {
				c.breakWith(fmt.Sprintf("did not answer a ping for %v while idle", cfg.PingTimeout))
			}
		case <-c.readDone():
			over = true
		case <-c.broken:
			over = true
		case <-c.drained:
			over = true
		case <-ctx.Done():
			over, asked = true, true
		}
	}
	stopFeeding()
	wg.Wait() // nothing is written to this child any more
	k.src.AddCapacity(-c.limit)
	k.pool.up.Add(-1)

	if asked || c.isDraining() {
		asked = k.finish(hard, c)
	}
	c.cutShort()
	c.ladder(hard)
	c.detach()
	if !asked {
		c.log.Warn("worker ended", "reason", c.reason(), "stderr", c.tail.Last())
	}
	c.abandon(asked)
	close(c.over)
}

// finish lets a child that takes nothing more end by itself: it is told to,
// and waited for until hard ends. It reports whether the child kept to that.
func (k *keeper) finish(hard context.Context, c *child) bool {
	c.out.add(func(dst []byte) []byte {
		return protocol.AppendNotification(dst, protocol.MethodShutdown, []byte("{}"))
	})
	if c.idleNow() {
		notify(c.idle) // it may never have run anything
	}
	for {
		select {
		case <-c.proc.Exited():
			subproc.Within(c.readDone(), outputGrace) // its last answers may still be in the pipe
			return c.idleNow()
		case <-c.broken:
			return false
		case <-c.idle:
			// The last answer is in. It may now end by itself; ladder helps.
			if c.idleNow() {
				subproc.AwaitExit(hard, c.proc, k.pool.cfg.KillGrace)
				return true
			}
		case <-c.readDone():
			return c.idleNow()
		case <-hard.Done():
			return true
		}
	}
}

func (c *child) idleNow() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.running) == 0
}

func (c *child) isDraining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

// reason says why the child is gone, for the log.
func (c *child) reason() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault != "" {
		return c.fault
	}
	return c.proc.Fate()
}
