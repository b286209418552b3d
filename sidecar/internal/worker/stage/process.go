package stage

import (
	"slices"
	"strconv"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/forkserver"
)

// processConfig returns the configuration of the processes of a kind of worker.
func (s *Stage) processConfig(k config.Kind) (rpc.Config, error) {
	all, w := s.o.Config, k.Worker
	env := w.Env
	var refreshEnv func() []string
	if w.Graflow && w.Socket.Path == "" || k.Mode == config.ModeSupervise {
		password, err := all.Redis.ReadPassword()
		if err != nil {
			return rpc.Config{}, err
		}
		own, err := worker.Environment(all.Redis, all.KeyPrefix, password)
		if err != nil {
			return rpc.Config{}, err
		}
		env = append(slices.Clip(env), own...)
		refreshEnv = worker.EnvironmentRefresher(all.Redis, all.KeyPrefix, password)
		env = append(env, "WORKER_ID="+all.WorkerID, "LOG_LEVEL="+w.LogLevel)
	}
	if k.Mode == config.ModeSupervise {
		env = append(env, "MAX_CONCURRENT_TASKS="+strconv.Itoa(k.Slots), "POLL_INTERVAL="+worker.Seconds(all.PollInterval))
	}
	c := rpc.Config{
		Command: w.Command, Name: w.Name, Adapter: w.Graflow, Dir: w.Dir, Env: env, RefreshEnv: refreshEnv, Files: w.Files,
		Concurrency: w.Concurrency, Slots: k.Slots, WorkerID: all.WorkerID, Version: all.Version, TaskTimeout: all.TaskTimeout,
		StartTimeout: w.StartTimeout, StartRetries: w.StartRetries,
		Restart:      backoff.Policy{Min: w.RestartBackoffMin, Max: w.RestartBackoffMax, Full: true},
		PingInterval: w.PingInterval, PingTimeout: w.PingTimeout, WriteTimeout: w.WriteTimeout,
		KillGrace: w.KillGrace, MaxMessageBytes: w.MaxMessageBytes, Log: s.log,
		CrashLoopExit:    w.CrashLoopExit,
		MaxTasksPerChild: w.MaxTasksPerChild, MaxChildAge: w.MaxChildAge, MaxChildRSS: w.MaxChildRSS, MaxExtra: w.MaxLent,
		Replaced: s.o.Replaced, Misbehaved: s.o.Misbehaved, Requests: s.o.Requests, Start: s.o.Start,
	}
	s.prefork(&c, w.ForkServer)
	return c, s.listen(&c)
}

// prefork makes a fork server for the workers, if it is configured. Several kinds of
// forked workers share one: they have the same command and environment.
func (s *Stage) prefork(c *rpc.Config, command []string) {
	if len(command) == 0 {
		return
	}
	if s.fork == nil {
		s.fork = forkserver.New(forkserver.Config{
			Command: command, WorkerID: c.WorkerID, Dir: c.Dir, Env: c.Env, Files: c.Files,
			StartTimeout: c.StartTimeout, Restart: c.Restart, Log: s.log,
		})
	}
	c.Fork = s.fork.Start
}
