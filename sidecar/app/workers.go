package app

import (
	"github.com/graflow/graflow-sidecar/sidecar/config"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/exec"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/supervise"
)

// workers makes the stage of the mode, or those of all kinds.
func (a *App) workers() (worker.Pool, error) {
	if a.hooks.workers != nil {
		return a.hooks.workers(a), nil
	}
	if len(a.cfg.Kinds) > 0 {
		return a.kindStages()
	}
	only := config.Kind{Mode: a.cfg.Mode, Slots: a.cfg.Slots, Worker: a.cfg.Worker}
	cfg, err := a.processConfig(only)
	if err != nil {
		return nil, err
	}
	if a.cfg.Mode == config.ModeSupervise {
		return supervise.New(supervise.Config{
			Command: cfg.Command, Name: cfg.Name, Dir: cfg.Dir, Env: cfg.Env, Renewed: cfg.Renewed, Extra: cfg.Extra,
			Replicas: a.cfg.Replicas, WorkerID: cfg.WorkerID,
			StartRetries: cfg.StartRetries, Restart: cfg.Restart, StopGrace: a.clock.share(reserveAfterSupervise),
			Await: a.awaitRedis, AllUp: a.allUp, Start: cfg.Start, Log: cfg.Log,
		}), nil
	}
	return a.stage(only, cfg, a.queue.Kind(0)), nil
}

// stage makes that of a kind of worker, which takes its tasks from a lane.
func (a *App) stage(k config.Kind, cfg rpc.Config, lane *dispatch.Lane) worker.Pool {
	if k.Mode == config.ModeExec {
		return exec.New(exec.Config{
			Command: cfg.Command, Name: cfg.Name, Dir: cfg.Dir, Env: cfg.Env, Extra: cfg.Extra,
			Slots: cfg.Slots, FirstSlot: cfg.FirstSlot, WorkerID: cfg.WorkerID, TaskTimeout: cfg.TaskTimeout,
			StartRetries: cfg.StartRetries, Restart: cfg.Restart, KillGrace: cfg.KillGrace,
			MaxOutput: cfg.MaxMessageBytes, Output: exec.Output(k.Worker.ExecOutput), Start: cfg.Start, Log: cfg.Log,
		}, lane, a.outcomeSink())
	}
	lane.Limit(k.Slots, k.Worker.MaxLent)
	return rpc.New(cfg, lane, a.outcomeSink())
}

// outcomeSink is where the workers' outcomes go.
func (a *App) outcomeSink() rpc.Sink {
	if a.hooks.sink != nil {
		return a.hooks.sink(a.sink)
	}
	return a.sink
}
