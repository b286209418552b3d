// Package forkserver starts worker processes through a fork server: a process that has
// imported what every worker needs, and is forked for each worker (see
// graflow_sidecar/_forkserver.py in examples/python-worker). While there is no fork
// server, a worker is started as any other command.
package forkserver

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// Config describes the fork server. Every field except Dir, Env and Files is required.
type Config struct {
	// Command runs the fork server; the number of its socket's descriptor is appended.
	Command  []string
	WorkerID string
	Dir      string
	Env      []string   // complete; also that of every worker
	Files    []*os.File // inherited as file descriptors 3, 4 …

	StartTimeout time.Duration  // until the imports are done
	Restart      backoff.Policy // pause before a restart
	Log          *slog.Logger

	forkTimeout time.Duration // shorter in tests
}

// forkTimeout bounds one fork. A fork takes a few milliseconds; a fork server that
// needs longer is stuck.
const forkTimeout = 5 * time.Second

// healthyAfter is how long a fork server must have lived for its next restart to have a
// short pause again.
const healthyAfter = time.Minute

// forker is a running fork server.
type forker interface {
	pid() int
	// fork makes a process of the command.
	fork(cmd *exec.Cmd) (local.Process, error)
	// gone is closed when the fork server has ended, or must be ended.
	gone() <-chan struct{}
	// end stops the fork server at once and returns how it ended. Its forks go on.
	end() string
	// complain returns true on the first call only.
	complain() bool
}

// Server keeps one fork server running. Its methods may be called concurrently.
type Server struct {
	cfg     Config
	launch  func(ctx context.Context) (forker, error)
	restart chan struct{} // one token: the running fork server is out of date

	mu         sync.Mutex
	up         forker // nil if none is ready
	pending    bool   // one is being started, and starts of workers wait for it
	halted     bool   // starts of workers wait for nothing
	generation int    // number of restarts
	changed    chan struct{}
}

// New prepares a server; nothing runs before Run. Workers that are started before Run
// wait for it.
func New(cfg Config) *Server {
	cfg.forkTimeout = forkTimeout
	return &Server{cfg: cfg, restart: make(chan struct{}, 1), pending: true, changed: make(chan struct{})}
}

// Run starts the fork server, and restarts it when it ends, until ctx ends; then it
// stops it. Workers that are started later are started without a fork server. Run may
// be called once.
func (s *Server) Run(ctx context.Context) error {
	defer func() {
		s.Halt()
		s.set(nil, false)
	}()
	if s.launch == nil {
		spawner := local.NewSpawner()
		defer spawner.Stop()
		s.launch = func(ctx context.Context) (forker, error) { return launch(ctx, &s.cfg, spawner.Start) }
	}
	return recoverpanic.Do(func() error {
		s.loop(ctx)
		return nil
	})
}

func (s *Server) loop(ctx context.Context) {
	pause := backoff.New(s.cfg.Restart)
	for ctx.Err() == nil {
		began, generation := time.Now(), s.begin()
		fs, err := s.launch(ctx)
		if err != nil {
			s.set(nil, false)
			if ctx.Err() == nil {
				s.rest(ctx, pause, err)
			}
			continue
		}
		s.cfg.Log.Info("fork server ready", "pid", fs.pid(), "took", time.Since(began).Round(time.Millisecond).String())
		if s.serve(ctx, fs, generation) {
			fs.end()
			continue // restarted, or stopped
		}
		fate := fs.end()
		if time.Since(began) > healthyAfter {
			pause.Reset()
		}
		s.cfg.Log.Warn("fork server ended, starting another one", "reason", fate)
		s.sleep(ctx, pause.Next())
	}
}

// begin prepares a launch and returns its generation: files may change while the fork
// server reads them.
func (s *Server) begin() (generation int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.restart: // this launch serves the request
	default:
	}
	s.up, s.pending = nil, true
	s.changeLocked()
	return s.generation
}

// serve offers fs until it is gone. It reports whether it was replaced or the sidecar
// stops, rather than having ended by itself.
func (s *Server) serve(ctx context.Context, fs forker, generation int) (asked bool) {
	if !s.offer(fs, generation) {
		return true
	}
	select {
	case <-s.restart:
		return true
	case <-ctx.Done():
		s.set(nil, false)
		return true
	case <-fs.gone():
		s.set(nil, false) // starts of workers do not wait for the pause
		return false
	}
}

// rest is the pause after a failed launch. A fork server that must not fork is tried
// again at the next restart of the workers.
func (s *Server) rest(ctx context.Context, pause *backoff.Backoff, err error) {
	switch unsupported, permanent := errors.AsType[*UnsupportedError](err); {
	case permanent:
		s.cfg.Log.Warn("workers cannot be forked: starting them one by one", "reason", unsupported.Reason)
		pause.Reset()
		select {
		case <-s.restart:
		case <-ctx.Done():
		}
		return
	case pause.Failures() == 0:
		s.cfg.Log.Warn("fork server does not start: starting workers one by one", "error", err)
	default:
		s.cfg.Log.Debug("fork server still does not start", "error", err)
	}
	s.sleep(ctx, pause.Next())
}

// sleep waits for d, for a restart or for the end of ctx.
func (s *Server) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.restart:
	case <-ctx.Done():
	}
}

// UnsupportedError is the error of a fork server that must not fork, for example
// because its imports have started a thread.
type UnsupportedError struct{ Reason string }

func (e *UnsupportedError) Error() string { return "the fork server is unsupported: " + e.Reason }

// Restart replaces the fork server, so that workers started from now on have imported
// the current files. It returns at once; workers that are started before the new fork
// server is ready wait for it.
func (s *Server) Restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.generation++
	s.up, s.pending = nil, true
	s.changeLocked()
	select {
	case s.restart <- struct{}{}:
	default:
	}
}

// Halt ends all waits for the fork server, because a stop has begun.
func (s *Server) Halt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halted = true
	s.changeLocked()
}

// Start starts a worker's command, which has everything except its streams and its
// group: with a fork if possible, otherwise with the given function. It waits for a
// fork server that is being started.
func (s *Server) Start(cmd *exec.Cmd, otherwise local.Start) (local.Process, error) {
	for {
		fs, generation := s.await()
		if fs == nil {
			return otherwise(cmd)
		}
		p, err := fs.fork(cmd)
		switch current := s.current(generation); {
		case err == nil && current:
			return p, nil
		case err == nil:
			discard(p) // it has the imports from before the restart
		case current:
			if fs.complain() {
				s.cfg.Log.Warn("worker could not be forked: starting it by itself", "reason", err)
			}
			return otherwise(cmd)
		}
	}
}

// discard ends a process that has received no message.
func discard(p local.Process) {
	p.Signal(syscall.SIGKILL)
	_, _, _ = p.Stdin().Close(), p.Stdout().Close(), p.Stderr().Close()
	<-p.Exited()
}

// await returns the fork server, or nil if there is none and none is being started.
func (s *Server) await() (fs forker, generation int) {
	patience := time.NewTimer(s.cfg.StartTimeout)
	defer patience.Stop()
	for {
		s.mu.Lock()
		fs, generation = s.up, s.generation
		wait := fs == nil && s.pending && !s.halted
		changed := s.changed
		s.mu.Unlock()
		if !wait {
			return fs, generation
		}
		select {
		case <-changed:
		case <-patience.C:
			return nil, generation
		}
	}
}

func (s *Server) current(generation int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.generation == generation
}

// offer makes fs the fork server for new workers, unless it is out of date.
func (s *Server) offer(fs forker, generation int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation != generation {
		return false
	}
	s.up, s.pending = fs, false
	s.changeLocked()
	return true
}

func (s *Server) set(fs forker, pending bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up, s.pending = fs, pending
	s.changeLocked()
}

// changeLocked wakes all goroutines that wait for a change.
func (s *Server) changeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}
