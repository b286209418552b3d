package host

import (
	"io"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// ourSignals are those that mean something to a running sidecar; the table is
// in docs/lifecycle.md. SIGPIPE is another matter: see CatchBrokenPipe.
var ourSignals = []os.Signal{
	syscall.SIGTERM, syscall.SIGINT, syscall.SIGTSTP, syscall.SIGCONT, syscall.SIGHUP, syscall.SIGQUIT,
}

// CatchSignals takes the signals, from here to the end of the process:
// run.SignalHandler would give them back when the first one comes, and the
// second would kill a drain. They are never given back: a second SIGTERM that came
// after the last stage, while the log was written out, made a good end a death.
func CatchSignals() <-chan os.Signal {
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, ourSignals...)
	return signals
}

// Sidecar is what the signals are for. The methods are those of *app.App.
type Sidecar interface {
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

// SignalHandler turns signals into words to the sidecar.
type SignalHandler struct {
	Sidecar Sidecar
	Log     *slog.Logger
	Budget  time.Duration // of a stop
	Signals <-chan os.Signal
	// Embedded says that the queue ends with the sidecar: nothing goes back to it.
	Embedded bool
	// ParentGone, if not nil, is closed when the process that started this one is gone.
	ParentGone <-chan struct{}
	DumpTo     io.Writer
	OnReady    func() // called once, on a goroutine, when the sidecar is ready

	dumping atomic.Bool
}

// Run returns when the sidecar has stopped, with its error. It never waits for a
// reader of what it writes.
func (s *SignalHandler) Run() error {
	ready, stopping, orphaned := s.Sidecar.Ready(), s.Sidecar.Stopping(), s.ParentGone
	stops := 0
	for {
		select {
		case sig := <-s.Signals:
			switch sig {
			case syscall.SIGTERM, syscall.SIGINT:
				stops++
				s.stop(sig.String(), stops)
			case syscall.SIGQUIT:
				s.dumpNow()
			default:
				if stops > 0 {
					s.Log.Debug("signal is ignored during a stop", "signal", sig.String())
					break
				}
				s.control(sig)
			}
		case <-orphaned:
			orphaned = nil
			if stops == 0 { // else a stop is on its way already
				stops++
				s.stop("the end of the process that started this one", stops)
			}
		case <-ready:
			ready = nil
			s.Log.Info("sidecar is ready")
			go s.OnReady() // its reader may not read
		case <-stopping:
			ready, stopping = nil, nil
		case <-s.Sidecar.Done():
			if err := s.Sidecar.Wait(); err != nil {
				return err
			}
			s.Log.Info("sidecar stopped")
			return nil
		}
	}
}

// dumpNow writes a dump, one at a time, beside the loop: it takes locks, and one
// that is never released is a reason to ask for a dump.
func (s *SignalHandler) dumpNow() {
	if !s.dumping.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer s.dumping.Store(false)
		if err := s.Sidecar.Dump(s.DumpTo); err != nil {
			s.Log.Warn("dump could not be written", "error", err)
		}
	}()
}

// stop handles the nth SIGTERM or SIGINT, or what counts as one.
func (s *SignalHandler) stop(sig string, n int) {
	if n == 1 {
		s.Sidecar.Stop()
		s.Log.Info("stopping: no new tasks, the running ones finish", "signal", sig, "within", s.Budget.String())
		return
	}
	s.Sidecar.Abort()
	if s.Embedded {
		s.Log.Info("force stop: running tasks are lost with the embedded redis", "signal", sig)
		return
	}
	s.Log.Info("force stop: running tasks go back to the queue", "signal", sig)
}

// control handles the signals of a sidecar that goes on.
func (s *SignalHandler) control(sig os.Signal) {
	switch sig {
	case syscall.SIGTSTP:
		s.Sidecar.Quiet()
		s.Log.Info("quiet: no new tasks until SIGCONT", "signal", sig.String())
	case syscall.SIGCONT:
		s.Sidecar.Resume()
		s.Log.Info("claiming tasks", "signal", sig.String())
	case syscall.SIGHUP:
		s.Sidecar.Hangup()
	}
}

// CatchBrokenPipe keeps a log reader that goes away from killing the sidecar: the
// Go runtime turns EPIPE on fd 1 and 2 into a deadly SIGPIPE unless the program has
// subscribed to the signal. (Ignoring it would be inherited by the children.)
func CatchBrokenPipe() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }
