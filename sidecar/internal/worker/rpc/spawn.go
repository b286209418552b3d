package rpc

import (
	"context"
	"os/exec"
	"slices"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

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
