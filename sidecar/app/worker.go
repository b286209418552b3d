package app

import (
	"slices"
	"strconv"

	"github.com/graflow/graflow-sidecar/sidecar/config"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
)

// CrashLoopError says that no worker keeps running; see its message.
type CrashLoopError = rpc.CrashLoopError

// processConfig translates for the process stage of a kind of worker.
func (a *App) processConfig(k config.Kind) (rpc.Config, error) {
	w := k.Worker
	env := w.Env
	var renewed func() []string
	if w.Graflow && w.Socket.Path == "" || k.Mode == config.ModeSupervise {
		password, err := a.cfg.Redis.ReadPassword()
		if err != nil {
			return rpc.Config{}, err
		}
		own, err := worker.Environment(a.cfg.Redis, a.cfg.KeyPrefix, password)
		if err != nil {
			return rpc.Config{}, err
		}
		env = append(slices.Clip(env), own...)
		renewed = worker.RenewedEnvironment(a.cfg.Redis, a.cfg.KeyPrefix, password)
		env = append(env, "WORKER_ID="+a.cfg.WorkerID, "LOG_LEVEL="+w.LogLevel)
	}
	if k.Mode == config.ModeSupervise {
		env = append(env, "MAX_CONCURRENT_TASKS="+strconv.Itoa(k.Slots), "POLL_INTERVAL="+worker.Seconds(a.cfg.PollInterval))
	}
	c := rpc.Config{
		Command: w.Command, Name: w.Name, Dir: w.Dir, Env: env, Renewed: renewed, Extra: w.Files,
		Concurrency: w.Concurrency, Slots: k.Slots, WorkerID: a.cfg.WorkerID, Version: a.cfg.Version, TaskTimeout: a.cfg.TaskTimeout,
		StartTimeout: w.StartTimeout, StartRetries: w.StartRetries,
		Restart:      backoff.Policy{Min: w.RestartBackoffMin, Max: w.RestartBackoffMax, Full: true},
		PingInterval: w.PingInterval, PingTimeout: w.PingTimeout, WriteTimeout: w.WriteTimeout,
		KillGrace: w.KillGrace, MaxMessageBytes: w.MaxMessageBytes, Log: a.log,
		CrashLoopExit:    w.CrashLoopExit,
		MaxTasksPerChild: w.MaxTasksPerChild, MaxChildAge: w.MaxChildAge, MaxChildRSS: w.MaxChildRSS, MaxLent: w.MaxLent,
		Replaced: a.countReplaced, Misbehaved: a.countMisbehaved, Requests: a.redis.requests, Start: a.hooks.start,
	}
	a.prefork(&c, w.ForkServer)
	return c, a.listen(&c)
}
