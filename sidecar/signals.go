package main

import (
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/app"
)

// ourSignals are those that mean something to a running sidecar; the table is
// in docs/lifecycle.md. SIGPIPE is another matter: see catchBrokenPipe.
var ourSignals = []os.Signal{
	syscall.SIGTERM, syscall.SIGINT, syscall.SIGTSTP, syscall.SIGCONT, syscall.SIGHUP, syscall.SIGQUIT,
}

// catchSignals takes the signals, from here to the end of the process:
// run.SignalHandler would give them back when the first one comes, and the
// second would kill a drain.
func catchSignals() (<-chan os.Signal, func()) {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, ourSignals...)
	return signals, func() { signal.Stop(signals) }
}

// controlled is what signals are for: an *app.App.
type controlled interface {
	Stop()
	Abort()
	Quiet()
	Resume()
	Renew()
	Dump(w io.Writer) error
	Ready() <-chan struct{}
	Stopping() <-chan struct{}
	Done() <-chan struct{}
	Wait() error
}

var _ controlled = (*app.App)(nil)

// supervisor turns signals into words to the sidecar.
type supervisor struct {
	app     controlled
	log     *slog.Logger
	budget  time.Duration // of a stop
	signals <-chan os.Signal
	// orphaned, if not nil, is closed when whoever started us is gone.
	orphaned <-chan struct{}
	dump     io.Writer
	ready    func() // called once, when the sidecar is ready
}

// watchdogGrace is how long after the end of its budget a stop is given up.
const watchdogGrace = time.Second

// run returns when the sidecar has stopped, with its error, or when a stop
// takes longer than it ever may.
func (s *supervisor) run() error {
	var watchdog <-chan time.Time
	ready, stopping, orphaned := s.app.Ready(), s.app.Stopping(), s.orphaned
	stops := 0
	for {
		select {
		case sig := <-s.signals:
			switch sig {
			case syscall.SIGTERM, syscall.SIGINT:
				stops++
				s.stop(sig.String(), stops)
			case syscall.SIGQUIT:
				if err := s.app.Dump(s.dump); err != nil {
					s.log.Warn("the dump could not be written", "error", err)
				}
			default:
				if stops > 0 {
					s.log.Debug("signal is ignored during a stop", "signal", sig.String())
					break
				}
				s.control(sig)
			}
		case <-orphaned:
			orphaned = nil
			if stops == 0 { // else it is on its way, and nobody is in a hurry
				stops++
				s.stop("the end of the process that started this one", stops)
			}
		case <-ready:
			ready = nil
			s.log.Info("sidecar is ready")
			s.ready()
		case <-stopping:
			ready, stopping = nil, nil
			timer := time.NewTimer(s.budget + watchdogGrace)
			defer timer.Stop()
			watchdog = timer.C
		case <-watchdog:
			return failure{&stuckError{watchdogGrace, s.budget}}
		case <-s.app.Done():
			if err := s.app.Wait(); err != nil {
				return failure{err} // whatever it is, the command line was right
			}
			s.log.Info("sidecar stopped")
			return nil
		}
	}
}

// stop handles the nth SIGTERM or SIGINT, or what counts as one.
func (s *supervisor) stop(sig string, n int) {
	if n == 1 {
		s.log.Info("stopping: no new tasks, the running ones finish", "signal", sig, "within", s.budget.String())
		s.app.Stop()
		return
	}
	s.log.Info("stopping at once: running tasks go back to the queue", "signal", sig)
	s.app.Abort()
}

// control handles the signals of a sidecar that goes on.
func (s *supervisor) control(sig os.Signal) {
	switch sig {
	case syscall.SIGTSTP:
		s.log.Info("quiet: no new tasks until SIGCONT", "signal", sig.String())
		s.app.Quiet()
	case syscall.SIGCONT:
		s.log.Info("claiming tasks", "signal", sig.String())
		s.app.Resume()
	case syscall.SIGHUP:
		s.app.Renew()
	}
}
