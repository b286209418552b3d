package health

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// stopWaitPoll is how often a stop looks whether Redis is still gone.
	stopWaitPoll = 100 * time.Millisecond
	// stopWaitReminder is between two log lines about what a stop waits for.
	stopWaitReminder = 3 * time.Second
)

// StopWait bounds how long a stop waits for a Redis that is gone. Without it a
// sidecar whose Redis had been stopped first waited out its whole budget for
// a Redis that did not come back.
type StopWait struct {
	Limit time.Duration
	Log   *slog.Logger
	// Lost, if not nil, is closed when that Redis cannot come back: no wait then.
	Lost <-chan struct{}

	mu     sync.Mutex
	gaveUp time.Time // when a stage stopped waiting; zero before
}

// Bound returns a context that ends with hard or, once soft has ended, as soon as
// waiting has told of the same outage for the limit. waiting returns how many items
// need Redis, 0 where none does, and since when Redis fails them. The outage counts
// from the end of soft at the earliest, and has no second wait in a later stage.
// release frees what Bound started, and returns when that has ended.
func (w *StopWait) Bound(soft, hard context.Context, what string, waiting func() (n int, since time.Time)) (bounded context.Context, release func()) {
	bounded, cancel := context.WithCancel(hard)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-soft.Done():
			w.watch(bounded, cancel, what, waiting)
		case <-bounded.Done():
		}
	}()
	return bounded, func() { cancel(); <-done }
}

// watch calls giveUp when the wait is over, and returns then or when ctx ends.
func (w *StopWait) watch(ctx context.Context, giveUp func(), what string, waiting func() (int, time.Time)) {
	began := time.Now()
	var said time.Time
	ticker := time.NewTicker(stopWaitPoll)
	defer ticker.Stop()
	for {
		select {
		case <-w.Lost:
			w.end()
			giveUp()
			return
		default:
		}
		if n, since := waiting(); n > 0 && !since.IsZero() {
			waited := time.Since(latest(began, since))
			if waited >= w.Limit || w.hasWaited(since) {
				w.end()
				w.Log.Warn("redis did not come back: the stop goes on without it", "waited", waited.Round(time.Millisecond).String(), "for", what, "count", n)
				giveUp()
				return
			}
			if time.Since(said) >= stopWaitReminder {
				said = time.Now()
				w.Log.Info("the stop waits for redis", "for", what, "count", n,
					"lost_for", time.Since(since).Round(time.Second).String(), "at_most", (w.Limit - waited).Round(time.Second).String())
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-w.Lost:
		case <-ticker.C:
		}
	}
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// hasWaited reports whether the outage that began at since has been waited for.
func (w *StopWait) hasWaited(since time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return since.Before(w.gaveUp)
}

func (w *StopWait) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gaveUp = time.Now()
}

// Over reports whether a stage has stopped waiting.
func (w *StopWait) Over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.gaveUp.IsZero()
}
