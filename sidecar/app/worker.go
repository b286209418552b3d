package app

import (
	"slices"
	"strconv"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/process"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }

// processConfig translates for the process stage.
func (a *App) processConfig() (process.Config, error) {
	w := a.cfg.Worker
	env := w.Env
	if w.Graflow {
		own, err := a.cfg.Redis.environment(a.cfg.KeyPrefix)
		if err != nil {
			return process.Config{}, err
		}
		env = append(slices.Clip(env), own...)
		env = append(env, "WORKER_ID="+a.cfg.WorkerID, "LOG_LEVEL="+w.LogLevel)
	}
	return process.Config{
		Command: w.Command, Name: w.Name, Dir: w.Dir, Env: env, Extra: w.Files,
		Concurrency: w.Concurrency, Slots: a.cfg.Slots, WorkerID: a.cfg.WorkerID, Version: a.cfg.Version, TaskTimeout: a.cfg.TaskTimeout,
		StartTimeout: w.StartTimeout, StartRetries: w.StartRetries,
		Restart:      backoff.Policy{Min: w.RestartBackoffMin, Max: w.RestartBackoffMax},
		PingInterval: w.PingInterval, PingTimeout: w.PingTimeout, WriteTimeout: w.WriteTimeout,
		KillGrace: w.KillGrace, MaxMessageBytes: w.MaxMessageBytes, Log: a.log,
		Start: a.hooks.start,
	}, nil
}

// filing is the pool's sink: it decides what a retryable failure becomes
// before the outcome is filed.
type filing struct {
	box         *report.Box
	maxAttempts int
}

// redisUnavailable is the type of a failure that is Redis' and not the task's
// (the Python adapter's word for it): it is tried again without limit.
const redisUnavailable = "RedisUnavailable"

// Done files an outcome.
func (f *filing) Done(o task.Outcome) {
	if o.Kind == task.Retry && o.Reason != redisUnavailable && o.Task.Attempt >= f.maxAttempts {
		o.Kind = task.Failed // it was tried often enough
	}
	f.box.Done(o)
}
