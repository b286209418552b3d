package app

import (
	"context"

	"github.com/graflow/graflow-sidecar/sidecar/config"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/exec"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/supervise"
)

// workers is what runs the tasks, as the rest of the sidecar sees it: the stage
// of each mode is one. Methods may be called concurrently.
type workers interface {
	// Run works until soft ends, then finishes what it has, and gives it back
	// when hard ends. It returns when no process is left: nil after a stop, a
	// StartError where the worker cannot be started at all.
	Run(soft, hard context.Context) error
	// Up is how many workers are up.
	Up() int
	// Renew replaces them one by one, and returns at once.
	Renew()
	// RenewSlot is Renew for one of them, and reports whether there is one.
	RenewSlot(slot int) bool
	// Evict ends every task of a run whose lease was lost. It returns when none
	// of them is running any more; none is started later.
	Evict(run string)
	// CrashLoop reports whether the workers keep dying.
	CrashLoop() bool
	// Slots is a snapshot of the workers.
	Slots() []Slot
}

var (
	_ workers = (*rpc.Pool)(nil)
	_ workers = executing{}
	_ workers = supervised{}
)

// workers makes the stage of the mode, or those of all kinds.
func (a *App) workers() (workers, error) {
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
		return supervised{supervise.New(supervise.Config{
			Command: cfg.Command, Name: cfg.Name, Dir: cfg.Dir, Env: cfg.Env, Renewed: cfg.Renewed, Extra: cfg.Extra,
			Replicas: a.cfg.Replicas, WorkerID: cfg.WorkerID,
			StartRetries: cfg.StartRetries, Restart: cfg.Restart, StopGrace: a.clock.share(reserveAfterSupervise),
			Await: a.awaitRedis, AllUp: a.allUp, Start: cfg.Start, Log: cfg.Log,
		})}, nil
	}
	return a.stage(only, cfg, a.queue.Kind(0)), nil
}

// stage makes that of a kind of worker, which takes its tasks from a lane.
func (a *App) stage(k config.Kind, cfg rpc.Config, lane *dispatch.Lane) workers {
	if k.Mode == config.ModeExec {
		return executing{exec.New(exec.Config{
			Command: cfg.Command, Name: cfg.Name, Dir: cfg.Dir, Env: cfg.Env, Extra: cfg.Extra,
			Slots: cfg.Slots, FirstSlot: cfg.FirstSlot, WorkerID: cfg.WorkerID, TaskTimeout: cfg.TaskTimeout,
			StartRetries: cfg.StartRetries, Restart: cfg.Restart, KillGrace: cfg.KillGrace,
			MaxOutput: cfg.MaxMessageBytes, Output: exec.Output(k.Worker.ExecOutput), Start: cfg.Start, Log: cfg.Log,
		}, lane, a.sink())}
	}
	lane.Limit(k.Slots, k.Worker.MaxLent)
	return rpc.New(cfg, lane, a.sink())
}

// executing is the stage of mode exec.
type executing struct{ *exec.Stage }

// CrashLoop is never so: a process that dies is its task's affair.
func (executing) CrashLoop() bool { return false }

// RenewSlot has nothing to replace: each task has a process of its own.
func (executing) RenewSlot(int) bool { return false }

// Slots lists the tasks that run: a slot without one has no process.
func (e executing) Slots() []Slot {
	running := e.Stage.Slots()
	list := make([]Slot, len(running))
	for i, r := range running {
		list[i] = Slot{Slot: r.Slot, Pid: r.Pid, Concurrency: 1, Tasks: []rpc.TaskStatus{
			{
				TaskID: r.Task.Info.TaskID, SessionID: r.Task.Info.SessionID, GroupID: r.Task.Info.GroupID,
				Delivery: r.Task.Delivery, Attempt: r.Task.Attempt, Started: r.Started,
			},
		}}
	}
	return list
}

// supervised is mode supervise.
type supervised struct{ *supervise.Supervisor }

// CrashLoop is never so: a replica that does not run is missing in Up.
func (supervised) CrashLoop() bool { return false }

// RenewSlot is never asked for: orders are for a run, and none is registered.
func (supervised) RenewSlot(int) bool { return false }

// Evict has nothing to end: no run is registered and nothing is claimed.
func (supervised) Evict(string) {}

// Slots lists the replicas that run. What they are at only they know.
func (s supervised) Slots() []Slot {
	replicas := s.Replicas()
	list := make([]Slot, len(replicas))
	for i, r := range replicas {
		list[i] = Slot{Slot: r.Replica, Pid: r.Pid, Leaving: r.Leaving}
	}
	return list
}
