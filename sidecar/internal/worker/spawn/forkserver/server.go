// Package forkserver starts worker processes by asking a fork server for them: a
// process that has imported once what every worker needs, and is forked for each
// of them (see graflow_sidecar/_forkserver.py in examples/python-worker). Where there
// is no fork server at the moment, a worker is started as any other command.
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

// Config describes the fork server. Every field is required but for Dir, Env and
// Files.
type Config struct {
	// Command runs the fork server; the number of its socket's descriptor is added.
	Command  []string
	WorkerID string
	Dir      string
	Env      []string   // complete, and that of every worker
	Files    []*os.File // handed down as file descriptors 3, 4 …

	StartTimeout time.Duration  // until it has imported what it has to
	Restart      backoff.Policy // pause before another one is started
	Log          *slog.Logger

	forkTimeout time.Duration // tests hurry
}

// forkTimeout bounds one fork. It takes a few milliseconds: a fork server that
// needs longer hangs.
const forkTimeout = 5 * time.Second

// healthyAfter is how long a fork server must have lived for its next restart
// to be quick again.
const healthyAfter = time.Minute

// forker is a running fork server.
type forker interface {
	pid() int
	// fork makes a process of the command.
	fork(cmd *exec.Cmd) (local.Process, error)
	// gone is closed when the fork server has ended, or must be ended.
	gone() <-chan struct{}
	// end stops the fork server without delay and returns how it ended. Its forks
	// live on.
	end() string
	// complain reports true the first time only.
	complain() bool
}

// Server keeps one fork server. Its methods may be called concurrently.
type Server struct {
	cfg    Config
	launch func(ctx context.Context) (forker, error)
	renew  chan struct{} // one token: the running one is out of date

	mu      sync.Mutex
	up      forker // nil: none is ready
	pending bool   // one is being started, and is worth waiting for
	halted  bool   // nothing is
	round   int    // counts the renewals
	changed chan struct{}
}

// New prepares a server; nothing runs before Run. Workers that are started
// before that wait for it.
func New(cfg Config) *Server {
	cfg.forkTimeout = forkTimeout
	return &Server{cfg: cfg, renew: make(chan struct{}, 1), pending: true, changed: make(chan struct{})}
}

// Run starts the fork server, and another one when it ends, until ctx ends, and then
// stops it. Workers that are started later are started without a fork server. Call
// Run once.
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
		began, round := time.Now(), s.begin()
		z, err := s.launch(ctx)
		if err != nil {
			s.set(nil, false)
			if ctx.Err() == nil {
				s.rest(ctx, pause, err)
			}
			continue
		}
		s.cfg.Log.Info("fork server ready", "pid", z.pid(), "took", time.Since(began).Round(time.Millisecond).String())
		if s.serve(ctx, z, round) {
			z.end()
			continue // renewed, or stopped
		}
		fate := z.end()
		if time.Since(began) > healthyAfter {
			pause.Reset()
		}
		s.cfg.Log.Warn("fork server ended, starting another one", "reason", fate)
		s.sleep(ctx, pause.Next())
	}
}

// begin prepares a launch. It returns the renewal that the launch is good for: files
// may change while the fork server reads them.
func (s *Server) begin() (round int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.renew: // this launch is what it asks for
	default:
	}
	s.up, s.pending = nil, true
	s.changeLocked()
	return s.round
}

// serve offers z until it is gone, and reports whether that is not its own fault: it
// was replaced, or the sidecar stops.
func (s *Server) serve(ctx context.Context, z forker, round int) (asked bool) {
	if !s.offer(z, round) {
		return true
	}
	select {
	case <-s.renew:
		return true
	case <-ctx.Done():
		s.set(nil, false)
		return true
	case <-z.gone():
		s.set(nil, false) // a worker that is due starts by itself, not after our pause
		return false
	}
}

// rest is the pause after a launch that failed. A fork server that must not fork is
// tried again when the workers are replaced.
func (s *Server) rest(ctx context.Context, pause *backoff.Backoff, err error) {
	switch unsupported, permanent := errors.AsType[*UnsupportedError](err); {
	case permanent:
		s.cfg.Log.Warn("workers cannot be forked: starting them one by one", "reason", unsupported.Reason)
		pause.Reset()
		select {
		case <-s.renew:
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

// sleep pauses for d, until a renewal or until ctx ends.
func (s *Server) sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.renew:
	case <-ctx.Done():
	}
}

// UnsupportedError is the error of a fork server that must not fork: its imports have
// started a thread, say.
type UnsupportedError struct{ Reason string }

func (e *UnsupportedError) Error() string { return "the fork server is unsupported: " + e.Reason }

// Restart replaces the fork server, so that workers started from now on have
// imported what is on disk from now on. It returns at once; workers that are
// started before the new one is there wait for it.
func (s *Server) Restart() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.round++
	s.up, s.pending = nil, true
	s.changeLocked()
	select {
	case s.renew <- struct{}{}:
	default:
	}
}

// Halt ends all waits for the fork server: a stop has begun.
func (s *Server) Halt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.halted = true
	s.changeLocked()
}

// Start makes a process of a worker's command, which is complete but for its streams
// and its group: by a fork where that works, and otherwise with the given function.
// It waits for a fork server that is being started.
func (s *Server) Start(cmd *exec.Cmd, otherwise local.Start) (local.Process, error) {
	for {
		z, round := s.await()
		if z == nil {
			return otherwise(cmd)
		}
		p, err := z.fork(cmd)
		switch current := s.current(round); {
		case err == nil && current:
			return p, nil
		case err == nil:
			discard(p) // it has imported what was there before the renewal
		case current:
			if z.complain() {
				s.cfg.Log.Warn("worker could not be forked: starting it by itself", "reason", err)
			}
			return otherwise(cmd)
		}
	}
}

// discard ends a process that has had no message yet.
func discard(p local.Process) {
	p.Signal(syscall.SIGKILL)
	_, _, _ = p.Stdin().Close(), p.Stdout().Close(), p.Stderr().Close()
	<-p.Exited()
}

// await returns the fork server, or nil if there is none and none is expected.
func (s *Server) await() (z forker, round int) {
	patience := time.NewTimer(s.cfg.StartTimeout)
	defer patience.Stop()
	for {
		s.mu.Lock()
		z, round = s.up, s.round
		wait := z == nil && s.pending && !s.halted
		changed := s.changed
		s.mu.Unlock()
		if !wait {
			return z, round
		}
		select {
		case <-changed:
		case <-patience.C:
			return nil, round
		}
	}
}

func (s *Server) current(round int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.round == round
}

// offer makes z the fork server that starts use, unless it is out of date.
func (s *Server) offer(z forker, round int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.round != round {
		return false
	}
	s.up, s.pending = z, false
	s.changeLocked()
	return true
}

func (s *Server) set(z forker, pending bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up, s.pending = z, pending
	s.changeLocked()
}

// changeLocked wakes all goroutines that wait for a change.
func (s *Server) changeLocked() {
	close(s.changed)
	s.changed = make(chan struct{})
}
