package rpc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
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
