// Package stage makes the worker stage of a configuration: the pool of its mode, or one
// for each kind of worker, and what their processes come from: a fork server, or hosts
// in other containers.
package stage

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/exec"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/forkserver"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/supervise"
)

// Lane is where a kind of worker takes its tasks from. *dispatch.Lane is one.
type Lane interface {
	rpc.Source
	exec.Source
	// Limit bounds the slots, and how many of them are lent.
	Limit(slots, maxExtra int)
}

// Options are what a Stage needs.
type Options struct {
	Config *config.Config
	// Lane is that of a kind of worker, counted from 0.
	Lane func(kind int) Lane
	Sink rpc.Sink
	// Requests serves what workers ask; nil refuses it.
	Requests rpc.Requests
	// Stopping is closed when the stop of the sidecar begins.
	Stopping <-chan struct{}
	// Failed is called when one of several kinds of worker has ended by itself.
	Failed func()
	// Replaced and Misbehaved are those of [rpc.Config].
	Replaced, Misbehaved func(what string)
	// Supervise has what mode supervise needs besides: Await, AllUp and StopGrace.
	Supervise supervise.Config

	// Start is for tests; nil starts real processes.
	Start local.Start
	// Pool is for tests and benchmarks: it makes the pool in place of that of the mode.
	Pool func(o Options) worker.Pool
}

// Stage runs the tasks.
type Stage struct {
	worker.Pool
	o      Options
	log    *slog.Logger
	fork   *forkserver.Server // nil unless workers are forked
	remote remoteWorkers
}

// New makes the stage. Nothing runs before Run, but the socket of remote workers is
// there. The error is a *config.Error.
func New(o Options) (*Stage, error) {
	s := &Stage{o: o, log: o.Config.Log}
	if o.Pool != nil {
		s.Pool = o.Pool(o)
		return s, nil
	}
	var err error
	if len(o.Config.Kinds) > 0 {
		s.Pool, err = s.group()
		return s, err
	}
	c := o.Config
	only := config.Kind{Mode: c.Mode, Slots: c.Slots, Worker: c.Worker}
	cfg, err := s.processConfig(only)
	switch {
	case err != nil:
	case c.Mode == config.ModeSupervise:
		sup := o.Supervise
		sup.Command, sup.Name, sup.Dir, sup.Env, sup.RefreshEnv, sup.Files = cfg.Command, cfg.Name, cfg.Dir, cfg.Env, cfg.RefreshEnv, cfg.Files
		sup.Replicas, sup.WorkerID, sup.StartRetries, sup.Restart = c.Replicas, cfg.WorkerID, cfg.StartRetries, cfg.Restart
		sup.Start, sup.Log = cfg.Start, cfg.Log
		s.Pool = supervise.New(sup)
	default:
		s.Pool = s.pool(only, cfg, o.Lane(0))
	}
	return s, err
}

// group makes the pools of several kinds. The slots of all have numbers of their own:
// those of a kind begin where the one before cannot come, also with all that it lends.
func (s *Stage) group() (worker.Pool, error) {
	g := worker.Group{Patterns: s.o.Config.Patterns(), Failed: s.o.Failed}
	first := 0
	for i, k := range s.o.Config.Kinds {
		cfg, err := s.processConfig(k)
		if err != nil {
			return nil, err
		}
		cfg.FirstSlot, cfg.Log = first, s.log.With("kind", k.Pattern)
		g.Stages = append(g.Stages, s.pool(k, cfg, s.o.Lane(i)))
		first += k.Slots + k.Worker.MaxLent
	}
	return g, nil
}

// pool makes that of a kind of worker, which takes its tasks from a lane.
func (s *Stage) pool(k config.Kind, cfg rpc.Config, lane Lane) worker.Pool {
	if k.Mode == config.ModeExec {
		return exec.New(exec.Config{
			Command: cfg.Command, Name: cfg.Name, Dir: cfg.Dir, Env: cfg.Env, Files: cfg.Files,
			Slots: cfg.Slots, FirstSlot: cfg.FirstSlot, WorkerID: cfg.WorkerID, TaskTimeout: cfg.TaskTimeout,
			StartRetries: cfg.StartRetries, Restart: cfg.Restart, KillGrace: cfg.KillGrace,
			MaxOutput: cfg.MaxMessageBytes, Output: exec.Output(k.Worker.ExecOutput), Start: cfg.Start, Log: cfg.Log,
		}, lane, s.o.Sink)
	}
	lane.Limit(k.Slots, k.Worker.MaxLent)
	return rpc.New(cfg, lane, s.o.Sink)
}

// Run is [worker.Pool]. The fork server, or the sockets of remote workers, are there
// for as long as the pool runs.
func (s *Stage) Run(soft, hard context.Context) error {
	switch {
	case s.remote.hub != nil:
		return s.remote.serve(func() error { return s.Pool.Run(soft, hard) })
	case s.fork == nil:
		return s.Pool.Run(soft, hard)
	}
	serving, stop := context.WithCancel(context.Background())
	defer stop()
	var wg sync.WaitGroup
	var err error
	wg.Go(func() { err = s.fork.Run(serving) })
	wg.Go(func() {
		// The turn of this stage in a stop comes later. Until then a worker that is due
		// is not worth waiting for.
		select {
		case <-s.o.Stopping:
			s.fork.Halt()
		case <-serving.Done():
		}
	})
	failed := s.Pool.Run(soft, hard)
	stop()
	wg.Wait()
	return errors.Join(failed, err)
}

// Restart replaces the workers one by one, and returns at once.
func (s *Stage) Restart() {
	if s.fork != nil {
		s.fork.Restart() // first, so that no fresh worker is a fork of the old one
	}
	s.Pool.Restart()
}

// Wanted is how many workers there must be for a sidecar to be ready.
func (s *Stage) Wanted() int {
	if s.o.Config.Mode == config.ModeSupervise {
		return s.o.Config.Replicas
	}
	return 1
}

// Complete reports whether there are the workers that a ready sidecar has.
func (s *Stage) Complete() bool {
	if g, several := s.Pool.(worker.Group); several {
		return g.Complete()
	}
	return s.Up() >= s.Wanted()
}

// CheckDirs checks that workers can be started in their working directories: at the
// start of the sidecar, and not with the first task. The error is a *config.Error.
func CheckDirs(c *config.Config) error {
	workers := []config.Worker{c.Worker}
	for _, k := range c.Kinds {
		workers = append(workers, k.Worker)
	}
	for _, w := range workers {
		if w.Socket.Path != "" {
			continue // the directory is in another container
		}
		if err := local.CheckDir(w.Dir); err != nil {
			return &config.Error{Err: err}
		}
	}
	return nil
}

// HandoverLimit is how long a task that could start may wait for a worker to take it,
// besides one call of Redis. A worker that ignores a cancelled task may be ended
// meanwhile, which keeps its other slots from taking any.
func HandoverLimit(c *config.Config) time.Duration {
	grace := c.Worker.KillGrace
	for _, k := range c.Kinds {
		grace = max(grace, k.Worker.KillGrace)
	}
	return 2 * grace
}

// maxEnvelope is how many bytes a task/run line of the worker protocol has at most
// besides its record.
const maxEnvelope = 512

// MaxRecord is how many bytes a record for a kind of worker may have; for an unknown
// kind it is the most of all. A worker skips a longer line (protocol rule P4), and its
// slot and the task's group would wait for ever. A program of mode exec gets no line,
// and a record as long as its result may be.
func MaxRecord(c *config.Config, kind int) int {
	of := func(m config.Mode, maxMessage int) int {
		if m == config.ModeExec {
			return maxMessage
		}
		return maxMessage - maxEnvelope
	}
	if len(c.Kinds) == 0 {
		return of(c.Mode, c.Worker.MaxMessageBytes)
	}
	most := 0
	for i, k := range c.Kinds {
		n := of(k.Mode, k.Worker.MaxMessageBytes)
		if i == kind {
			return n
		}
		most = max(most, n)
	}
	return most
}
