package process

import (
	"context"
	"errors"
	"os/exec"
	"slices"

	"github.com/graflow/graflow-sidecar/sidecar/internal/subproc"
)

// spawn starts a child's process, whose id is given; where it runs elsewhere
// that waits for as long as ctx allows until somebody is there to run it.
func (k *keeper) spawn(ctx context.Context, id string) (subproc.Process, error) {
	cfg := &k.pool.cfg
	if cfg.Remote == nil {
		cmd := exec.Command(cfg.Command[0], cfg.Command[1:]...)
		cmd.Dir = cfg.Dir
		cmd.Env = append(slices.Clip(cfg.Env), subproc.IDVariable+"="+id)
		cmd.ExtraFiles = cfg.Extra
		p, err := k.pool.start(cmd)
		if err != nil {
			err = errors.New(subproc.StartReason(err))
		}
		return p, err
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

// givesUp reports whether the sidecar ends when its worker does not start. One
// that runs elsewhere is not ours to give up: its own container says so, and is
// restarted.
func (p *Pool) givesUp(failures int) bool {
	return p.cfg.Remote == nil && failures >= p.cfg.StartRetries && !p.started.Load()
}

// goes has the child take nothing more, as if it had asked for that itself.
func (c *child) goes() {
	c.mu.Lock()
	if !c.draining {
		c.draining = true
		close(c.drained)
	}
	c.mu.Unlock()
	notify(c.free)
}
