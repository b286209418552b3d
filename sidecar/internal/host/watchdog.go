package host

import (
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/reaper"
)

// watchdogGrace is how long after the end of its budget a stop is given up.
const watchdogGrace = time.Second

// Watchdog ends the process when a stop takes longer than it ever may. It has
// goroutines, a signal channel and a timer of its own and takes no lock of others:
// as a part of the loop that calls Stop it hung with that loop when a log line
// could not be written. Once begun it is never called off: what is done after the
// last stage counts, too.
type Watchdog struct {
	after  time.Duration // from the beginning of a stop
	expire func()
	begun  atomic.Bool
}

// begin starts the time; only the first call does.
func (w *Watchdog) begin() {
	if w.begun.CompareAndSwap(false, true) {
		time.AfterFunc(w.after, w.expire)
	}
}

// Watch begins with the first signal, and when a stop begins by itself, until over
// is closed.
func (w *Watchdog) Watch(signals <-chan os.Signal, stopping, over <-chan struct{}) {
	select {
	case <-signals:
		w.begin()
	case <-stopping:
		w.begin()
	case <-over:
	}
}

// GuardStop makes a watchdog for a stop's budget that watches the signals that
// begin one, until the returned function is called. When a stop takes too long,
// explain is given a *StalledError, all that the process has started is killed, and
// the process ends with the status.
func GuardStop(budget time.Duration, explain func(error), status int) (w *Watchdog, release func()) {
	w = &Watchdog{after: budget + watchdogGrace, expire: func() {
		giveUp(func() { explain(&StalledError{watchdogGrace, budget}) }, status)
	}}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	over := make(chan struct{})
	go w.Watch(signals, nil, over)
	return w, func() {
		signal.Stop(signals)
		close(over)
	}
}

// StalledError is what the watchdog says.
type StalledError struct{ Grace, Budget time.Duration }

func (e *StalledError) Error() string {
	return fmt.Sprintf("the stop was not over %v after its budget of %v (this is a bug in the sidecar, please report it)", e.Grace, e.Budget)
}

// lastWordTime bounds what the watchdog does before it ends the process.
const lastWordTime = 250 * time.Millisecond

// giveUp ends the process with all that it has started, and says why if the log
// takes it at once.
func giveUp(explain func(), status int) {
	said := make(chan struct{})
	go func() {
		defer close(said)
		explain()
		reaper.Abandon(lastWordTime / 2)
		Stderr().Close(lastWordTime / 2)
	}()
	timer := time.NewTimer(lastWordTime)
	defer timer.Stop()
	select {
	case <-said:
	case <-timer.C:
	}
	os.Exit(status) //nolint:forbidigo // what main would wait for hangs
}
