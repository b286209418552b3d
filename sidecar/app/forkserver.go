package app

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/forkserver"
)

// forking is what workers are forked from: nothing, unless that is wanted.
type forking struct{ *forkserver.Server }

// prefork prepares that, and has the process stage use it. Several kinds of
// worker that are forked share one: it is the same command in the same
// environment.
func (a *App) prefork(c *rpc.Config, command []string) {
	if len(command) == 0 {
		return
	}
	if a.fork.Server == nil {
		a.fork.Server = forkserver.New(forkserver.Config{
			Command: command, WorkerID: c.WorkerID, Dir: c.Dir, Env: c.Env, Files: c.Extra,
			StartTimeout: c.StartTimeout, Restart: c.Restart, Log: a.log,
		})
	}
	c.Fork = a.fork.Start
}

// runWorkers is the process stage: the pool, and around its life that of the
// fork server, so that whoever needs a worker finds somebody to ask.
func (a *App) runWorkers(soft, hard context.Context) error {
	defer a.sink.Settle() // before the turn of the stage that reports
	hard, release := a.stopWait.Bound(soft, hard, "tasks that wait for redis", a.onlyRedisHolds)
	defer release()
	// What a worker asks for must not hold up a stop whose time is over.
	defer context.AfterFunc(hard, a.redis.cutRequests)()
	switch {
	case a.away.hub != nil:
		return a.host(func() error { return a.pool.Run(soft, hard) })
	case a.fork.Server == nil:
		return a.pool.Run(soft, hard)
	}
	serving, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { err = a.fork.Run(serving) })
	wg.Go(func() {
		// This stage's turn comes later. Until then a worker that is due is not
		// worth waiting for.
		select {
		case <-a.clock.began:
			a.fork.Halt()
		case <-serving.Done():
		}
	})
	failed := a.pool.Run(soft, hard)
	stop()
	wg.Wait()
	return errors.Join(failed, err)
}

// onlyRedisHolds returns how many tasks run, if all of them wait for a request
// to a Redis that is lost, and since when it is; else 0. Such tasks cannot end
// by themselves.
func (a *App) onlyRedisHolds() (n int, since time.Time) {
	running := a.queue.Counts().Running
	if a.requests == nil || a.requests.Tasks() < running {
		return 0, time.Time{}
	}
	return running, a.mon.LostSince()
}
