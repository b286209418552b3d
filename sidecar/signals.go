package main

import (
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
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
// second would kill a drain. They are never given back: a second SIGTERM that came
// after the last stage, while the log was written out, made a good end a death.
func catchSignals() <-chan os.Signal {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, ourSignals...)
	return signals
}

// controlled is what signals are for: an *app.App.
type controlled interface {
	Stop()
	Abort()
	Quiet()
	Resume()
	Hangup()
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
	// embedded says that the queue ends with the sidecar: nothing goes back to it.
	embedded bool
	// orphaned, if not nil, is closed when whoever started us is gone.
	orphaned <-chan struct{}
	dump     io.Writer
	dumping  atomic.Bool
	ready    func() // called once, on a goroutine, when the sidecar is ready
}

// run returns when the sidecar has stopped, with its error. It never waits for a
// reader of what it writes.
func (s *supervisor) run() error {
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
				s.dumpNow()
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
			go s.ready() // its reader may not read
		case <-stopping:
			ready, stopping = nil, nil
		case <-s.app.Done():
			if err := s.app.Wait(); err != nil {
				return failure{err} // whatever it is, the command line was right
			}
			s.log.Info("sidecar stopped")
			return nil
		}
	}
}

// dumpNow writes a dump, one at a time, beside the loop: it takes locks, and one
// that is never released is a reason to ask for a dump.
func (s *supervisor) dumpNow() {
	if !s.dumping.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer s.dumping.Store(false)
		if err := s.app.Dump(s.dump); err != nil {
			s.log.Warn("the dump could not be written", "error", err)
		}
	}()
}

// stop handles the nth SIGTERM or SIGINT, or what counts as one.
func (s *supervisor) stop(sig string, n int) {
	if n == 1 {
		s.app.Stop()
		s.log.Info("stopping: no new tasks, the running ones finish", "signal", sig, "within", s.budget.String())
		return
	}
	s.app.Abort()
	if s.embedded {
		s.log.Info("stopping at once: running tasks are lost with the embedded redis", "signal", sig)
		return
	}
	s.log.Info("stopping at once: running tasks go back to the queue", "signal", sig)
}

// control handles the signals of a sidecar that goes on.
func (s *supervisor) control(sig os.Signal) {
	switch sig {
	case syscall.SIGTSTP:
		s.app.Quiet()
		s.log.Info("quiet: no new tasks until SIGCONT", "signal", sig.String())
	case syscall.SIGCONT:
		s.app.Resume()
		s.log.Info("claiming tasks", "signal", sig.String())
	case syscall.SIGHUP:
		s.app.Hangup()
	}
}
