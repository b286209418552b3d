package main

import (
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/reaper"
)

// watchdogGrace is how long after the end of its budget a stop is given up.
const watchdogGrace = time.Second

// watchdog ends the process when a stop takes longer than it ever may. It has
// goroutines, a signal channel and a timer of its own and takes no lock of others:
// as a part of the loop that calls Stop it hung with that loop when a log line
// could not be written. Once begun it is never called off: what is done after the
// last stage counts, too.
type watchdog struct {
	after  time.Duration // from the beginning of a stop
	expire func()
	begun  atomic.Bool
}

// begin starts the time; only the first call does.
func (w *watchdog) begin() {
	if w.begun.CompareAndSwap(false, true) {
		time.AfterFunc(w.after, w.expire)
	}
}

// watch begins with the first signal, and when a stop begins by itself, until over
// is closed.
func (w *watchdog) watch(signals <-chan os.Signal, stopping, over <-chan struct{}) {
	select {
	case <-signals:
		w.begin()
	case <-stopping:
		w.begin()
	case <-over:
	}
}

// guardStop makes a watchdog for a stop's budget that watches the signals that
// begin one, until the returned function is called.
func guardStop(budget time.Duration) (w *watchdog, release func()) {
	w = &watchdog{after: budget + watchdogGrace, expire: func() {
		giveUp(&stuckError{watchdogGrace, budget})
	}}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	over := make(chan struct{})
	go w.watch(signals, nil, over)
	return w, func() {
		signal.Stop(signals)
		close(over)
	}
}

// lastWordTime bounds what the watchdog does before it ends the process.
const lastWordTime = 250 * time.Millisecond

// giveUp ends the process with all that it has started, and says why if the log
// takes it at once.
func giveUp(err error) {
	said := make(chan struct{})
	go func() {
		defer close(said)
		explain(stderr(), failure{err})
		reaper.Abandon(lastWordTime / 2)
		stderr().Close(lastWordTime / 2)
	}()
	timer := time.NewTimer(lastWordTime)
	defer timer.Stop()
	select {
	case <-said:
	case <-timer.C:
	}
	os.Exit(exitInternal) //nolint:forbidigo // what main would wait for hangs
}
