package app

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
)

const (
	// stopWaitPoll is how often a stop looks whether Redis is still gone.
	stopWaitPoll = 100 * time.Millisecond
	// stopWaitReminder is between two log lines about what a stop waits for.
	stopWaitReminder = 3 * time.Second
)

// stopWait bounds how long a stop waits for a Redis that is gone. Without it a
// sidecar whose Redis had been stopped first waited out its whole budget for
// a Redis that did not come back.
type stopWait struct {
	limit time.Duration
	log   *slog.Logger
	// lost, if not nil, is closed when that Redis cannot come back: no wait then.
	lost <-chan struct{}

	mu     sync.Mutex
	gaveUp time.Time // when a stage stopped waiting; zero before
}

// bound returns a context that ends with hard or, once soft has ended, as soon as
// waiting has told of the same outage for the limit. waiting returns how many items
// need Redis, 0 where none does, and since when Redis fails them. The outage counts
// from the end of soft at the earliest, and has no second wait in a later stage.
// release frees what bound started, and returns when that has ended.
func (w *stopWait) bound(soft, hard context.Context, what string, waiting func() (n int, since time.Time)) (bounded context.Context, release func()) {
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
func (w *stopWait) watch(ctx context.Context, giveUp func(), what string, waiting func() (int, time.Time)) {
	began := time.Now()
	var said time.Time
	ticker := time.NewTicker(stopWaitPoll)
	defer ticker.Stop()
	for {
		select {
		case <-w.lost:
			w.end()
			giveUp()
			return
		default:
		}
		if n, since := waiting(); n > 0 && !since.IsZero() {
			waited := time.Since(latest(began, since))
			if waited >= w.limit || w.hasWaited(since) {
				w.end()
				w.log.Warn("redis did not come back: the stop goes on without it", "waited", waited.Round(time.Millisecond).String(), "for", what, "count", n)
				giveUp()
				return
			}
			if time.Since(said) >= stopWaitReminder {
				said = time.Now()
				w.log.Info("the stop waits for redis", "for", what, "count", n,
					"lost_for", time.Since(since).Round(time.Second).String(), "at_most", (w.limit - waited).Round(time.Second).String())
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-w.lost:
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
func (w *stopWait) hasWaited(since time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return since.Before(w.gaveUp)
}

func (w *stopWait) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gaveUp = time.Now()
}

// over reports whether a stage has stopped waiting.
func (w *stopWait) over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.gaveUp.IsZero()
}

// watchedOutcomes notes since when the calls of the report stage fail. The
// health monitor cannot tell: where Redis refuses reports and takes other
// commands, it hears of both.
type watchedOutcomes struct {
	report.Store

	mu      sync.Mutex
	failing time.Time
}

func (o *watchedOutcomes) Report(ctx context.Context, route report.Route, batch []task.Outcome) ([]report.Verdict, error) {
	verdicts, err := o.Store.Report(ctx, route, batch)
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case err == nil:
		o.failing = time.Time{}
	case o.failing.IsZero():
		o.failing = time.Now()
	}
	return verdicts, err
}

// since is when the calls began to fail; zero while they succeed.
func (o *watchedOutcomes) since() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.failing
}

// outage is when the outage began in which reports have failed since failing, which
// is zero while they succeed. It may have begun before there was something to report.
func (a *App) outage(failing time.Time) time.Time {
	if lost := a.mon.LostSince(); !failing.IsZero() && !lost.IsZero() && lost.Before(failing) {
		return lost
	}
	return failing
}

// watchedRequests counts the tasks that have a request under way.
type watchedRequests struct {
	rpc.Requests

	mu   sync.Mutex
	open map[string]int // requests by delivery
}

func newWatchedRequests(r rpc.Requests) *watchedRequests {
	return &watchedRequests{Requests: r, open: make(map[string]int)}
}

func (r *watchedRequests) Ask(ctx context.Context, t *task.Task, method string, a *protocol.Ask) ([]byte, error) {
	defer r.enter(t.Delivery)()
	return r.Requests.Ask(ctx, t, method, a)
}

func (r *watchedRequests) Inputs(ctx context.Context, t *task.Task, names []string) ([]protocol.Input, error) {
	defer r.enter(t.Delivery)()
	return r.Requests.Inputs(ctx, t, names)
}

func (r *watchedRequests) enter(delivery string) (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[delivery]++
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.open[delivery]--; r.open[delivery] == 0 {
			delete(r.open, delivery)
		}
	}
}

// tasks is how many tasks have a request under way.
func (r *watchedRequests) tasks() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.open)
}

// onlyRedisHolds returns how many tasks run, if all of them wait for a request
// to a Redis that is lost, and since when it is; else 0. Such tasks cannot end
// by themselves.
func (a *App) onlyRedisHolds() (n int, since time.Time) {
	running := a.queue.Counts().Running
	if a.requests == nil || a.requests.tasks() < running {
		return 0, time.Time{}
	}
	return running, a.mon.LostSince()
}
