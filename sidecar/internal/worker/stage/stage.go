// Package stage makes the worker stage of a configuration: the pool of its mode, or one
// pool for each kind of worker, with the fork server or the socket for hosts in other
// containers.
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

// Lane is the source of the tasks of a kind of worker. *dispatch.Lane implements it.
type Lane interface {
	rpc.Source
	exec.Source
	// Limit bounds the slots, and the extra slots.
	Limit(slots, maxExtra int)
}

// Options are the options of a Stage.
type Options struct {
	Config *config.Config
	// Lane returns the lane of a kind of worker, counted from 0.
	Lane func(kind int) Lane
	Sink rpc.Sink
	// Requests serves the requests of workers; nil refuses them.
	Requests rpc.Requests
	// Stopping is closed when the stop of the sidecar begins.
	Stopping <-chan struct{}
	// Failed is called when the pool of one of several kinds has ended by itself.
	Failed func()
	// Replaced and Misbehaved are those of [rpc.Config].
	Replaced, Misbehaved func(what string)
	// Supervise has Await, AllUp and StopGrace for mode supervise.
	Supervise supervise.Config

	// Start is for tests; nil starts real processes.
	Start local.Start
	// Pool is for tests and benchmarks: it replaces the pool of the mode.
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

// New makes the stage. Before Run it makes only the socket of remote workers. The error
// is a *config.Error.
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

// group makes the pools of several kinds. Slot numbers are unique over all kinds: those
// of a kind begin after the highest number that the kind before can have, with its
// extra slots.
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

// pool makes the pool of a kind of worker, which takes its tasks from a lane.
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

// Run implements [worker.Pool]. The fork server and the sockets of remote workers exist
// while the pool runs.
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
		// This stage stops later than the stop begins. Until then no start of a worker is
		// worth a wait for the fork server.
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

// Restart replaces the workers one by one. It returns at once.
func (s *Stage) Restart() {
	if s.fork != nil {
		s.fork.Restart() // first, so that no fresh worker is forked from the old one
	}
	s.Pool.Restart()
}

// Wanted returns how many workers a ready sidecar has.
func (s *Stage) Wanted() int {
	if s.o.Config.Mode == config.ModeSupervise {
		return s.o.Config.Replicas
	}
	return 1
}

// Complete reports whether all workers of a ready sidecar are up.
func (s *Stage) Complete() bool {
	if g, several := s.Pool.(worker.Group); several {
		return g.Complete()
	}
	return s.Up() >= s.Wanted()
}

// CheckDirs checks that workers can be started in their working directories, at the
// start of the sidecar rather than with the first task. The error is a *config.Error.
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

// HandoverLimit is how long a task that could start may wait for a worker, besides one
// call to Redis. Meanwhile a worker that ignores a cancel may have to be ended, which
// keeps its other slots from taking tasks.
func HandoverLimit(c *config.Config) time.Duration {
	grace := c.Worker.KillGrace
	for _, k := range c.Kinds {
		grace = max(grace, k.Worker.KillGrace)
	}
	return 2 * grace
}

// maxEnvelope is the maximum number of bytes of a task/run line besides its record.
const maxEnvelope = 512

// MaxRecord returns the maximum number of bytes of a record for a kind of worker; for
// an unknown kind, the highest maximum. A worker skips a longer line (protocol rule
// P4), so that its slot and the group of the task would wait for ever. A program of
// mode exec gets no line; its records may be as long as its results.
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
