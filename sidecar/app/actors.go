package app

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/claim"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/stage"
)

const (
	// claimBudget is how long the claim stage may take to stop: it waits for at
	// most one reply of Redis.
	claimBudget = time.Second
	// spoolAtLeast is what the spool has where the stages have used up the whole budget.
	spoolAtLeast = 300 * time.Millisecond
	// telemetryBudget is what a stop gives to the last spans and metrics at most: a
	// collector that does not answer is not worth more.
	telemetryBudget = time.Second
	// reserveAfterSupervise is what supervised workers leave of a stop's budget:
	// nothing stops after them but Redis.
	reserveAfterSupervise = time.Second
)

// actors lists the stages in the order in which they stop: senders before
// receivers, and Redis after all that speak to it.
func (a *App) actors(ctx context.Context) (list []actor) {
	add := func(more ...actor) { list = append(list, more...) }
	// stop: its end, or any other actor's, begins the stop.
	add(actor{name: "stop", run: func(soft, _ context.Context) error {
		select {
		case <-a.asked:
		case <-ctx.Done():
		case <-soft.Done():
		}
		a.beginStop()
		return nil
	}})
	if a.cfg.Mode == config.ModeSupervise {
		// supervise: in the place of the whole pipeline, since the workers claim and
		// report for themselves, and no run is registered. They have Redis for as long
		// as they are there.
		add(actor{name: "supervise", reserve: reserveAfterSupervise, run: func(soft, hard context.Context) error {
			// The second signal ends them at once, whatever is left of the budget.
			hard, letGo := context.WithCancel(hard)
			defer letGo()
			defer context.AfterFunc(a.clock.rush, letGo)()
			return a.workers.Run(soft, hard)
		}})
	} else {
		add(a.pipeline()...)
	}
	if a.telemetry.IsOn() {
		// telemetry: after all that end a span. What is not reported by now will not be.
		add(actor{name: "telemetry", within: telemetryBudget, run: func(soft, hard context.Context) error {
			return a.telemetry.Run(soft, hard, a.obs.Metrics().Gatherer(), a.buffer.Undelivered)
		}})
	}
	// health: everything above waits by it while Redis is away. Its pings have
	// the connections of stages that are over.
	add(actor{name: "health", run: func(soft, _ context.Context) error {
		defer context.AfterFunc(soft, func() { a.redis.closeLast(); a.redis.closeReports() })()
		return a.mon.Run(soft)
	}})
	if a.server != nil {
		// admin: after all whose state it shows, so that a stop can be watched, and
		// before the connections that it asks Redis over.
		add(actor{name: "admin", run: func(soft, _ context.Context) error { return a.server.Serve(soft) }})
	}
	// redis: the connections close when nothing speaks any more.
	add(actor{name: "redis", run: func(soft, _ context.Context) error {
		<-soft.Done()
		return a.redis.Close()
	}})
	if a.local != nil {
		add(actor{name: "local redis", run: a.runLocal})
	}
	return list
}

// pipeline is the way of a record, and what keeps the run.
func (a *App) pipeline() []actor {
	list := []actor{
		// claim: first, so that nothing new becomes ours.
		{name: "claim", within: claimBudget, run: a.runClaims},
		// spool: beside everything else. Its calls are cut at a stop: what it has not
		// reported stays where it is.
		{name: "spool", run: func(soft, _ context.Context) error {
			defer context.AfterFunc(soft, a.redis.closeSpool)()
			a.redis.spool(soft)
			<-soft.Done()
			return nil
		}},
		// dispatch: what was claimed and not started goes to the report stage, all
		// of it: the claim stage has read its last reply. (Nothing is started
		// since the beginning of the stop, which halted the queue.)
		{name: "dispatch", run: func(soft, _ context.Context) error {
			<-soft.Done()
			a.queue.Close()
			return nil
		}},
		// process: the children finish what they have.
		{name: "process", reserve: reserveAfterProcess, run: a.runWorkers},
		// report: after all that have something to report.
		{name: "report", reserve: reserveAfterReport, atLeast: speakAtLeast, run: a.runReports},
		// lease: after the last report, which is only accepted from a live run.
		{name: "lease", reserve: reserveAfterLeave, run: func(soft, hard context.Context) error {
			defer context.AfterFunc(hard, a.redis.closeLeases)()
			return a.lease.Run(soft)
		}},
		// leave: apart from the lease, so that the run is left and what it held
		// goes back also where the lease has failed.
		{name: "leave", reserve: reserveAfterLeave, atLeast: speakAtLeast, run: a.runLeave},
	}
	return slices.DeleteFunc(list, func(x actor) bool { return x.name == "spool" && a.redis.spool == nil })
}

func (a *App) runClaims(soft, hard context.Context) error {
	loop := &claim.Loop{
		Source: a.redis.Source, Sink: a.queue, WaitCapacity: a.buffer.WaitCapacity, Tracker: &a.tracker, NewNonce: rand.Text, Log: a.log,
		MaxAttempts: a.cfg.MaxAttempts, DeadLetter: a.buffer.DeadLetter, Requeue: a.buffer.Requeue, OnClaimed: a.inFlight.Add,
		OnProgress: func() {
			if a.workers.Complete() {
				a.becomeReady() // Redis has answered
			}
		},
		Check: protocol.CheckJSON, KindOf: claim.KindOf(a.cfg.Patterns()), Trace: a.telemetry.Trace,
		MaxRecordBytes: func(kind int) int { return stage.MaxRecord(&a.cfg, kind) },
	}
	defer context.AfterFunc(soft, a.redis.endWait)()
	// A reply that does not come must not hold the others up: what it
	// would have told is in Redis under our name and goes back with it.
	defer context.AfterFunc(hard, a.redis.closeClaims)()
	return loop.Run(soft, hard)
}

func (a *App) runWorkers(soft, hard context.Context) error {
	defer a.sink.Settle() // before the turn of the stage that reports
	hard, release := a.stopWait.Bound(soft, hard, "tasks that wait for redis", func() (int, time.Time) {
		// Tasks that all wait for a Redis that is lost cannot end by themselves.
		running := a.queue.Counts().Running
		if a.requests == nil || a.requests.Tasks() < running {
			return 0, time.Time{}
		}
		return running, a.mon.LostSince()
	})
	defer release()
	// What a worker asks for must not hold up a stop whose time is over.
	defer context.AfterFunc(hard, a.redis.closeRequests)()
	return a.workers.Run(soft, hard)
}

// runReports gives up early where a stop has waited long enough for a Redis that is gone.
func (a *App) runReports(soft, hard context.Context) error {
	loop := &report.Loop{Store: a.redis.Outcomes, Buffer: a.buffer, Log: a.log, OnSettled: a.settled}
	hard, release := a.stopWait.Bound(soft, hard, "outcomes to report", func() (int, time.Time) {
		return a.buffer.Pending(), a.mon.OutageSince(loop.FailingSince())
	})
	defer release()
	defer context.AfterFunc(hard, a.redis.closeReports)()
	return loop.Run(soft, hard)
}

func (a *App) runLeave(soft, hard context.Context) error {
	<-soft.Done()
	if a.local != nil && isClosed(a.local.Done()) {
		return nil // our own Redis has ended, and does not come back
	}
	if a.stopWait.Over() && a.mon.Away() {
		// The stop has waited for Redis: one that is back by now answers the first
		// attempt.
		var cancel context.CancelFunc
		hard, cancel = context.WithTimeout(hard, speakAtLeast)
		defer cancel()
	}
	defer context.AfterFunc(hard, func() { a.redis.closeLeases(); a.redis.closeLast() })()
	a.lease.Leave(hard)
	return nil
}

var errLocalEnded = errors.New("it gave no reason")

// runLocal is the stage of our own Redis, which goes last. Where it dies by itself
// the sidecar ends at once: no record, lease or barrier comes back, and the
// outcome of a task that finishes can be reported nowhere.
func (a *App) runLocal(soft, hard context.Context) error {
	select {
	case <-soft.Done():
		return errors.Join(a.local.Err(), a.local.Stop(hard))
	case <-a.local.Done():
	}
	err := a.local.Err()
	if err == nil {
		err = errLocalEnded
	}
	counts := a.queue.Counts()
	a.Abort()
	a.log.Error("embedded redis has ended: its tasks are lost",
		"running", counts.Running, "waiting", counts.Ready, "unreported", a.buffer.Pending(), "error", err)
	return &LocalRedisError{errors.Join(err, a.local.Stop(hard))}
}

// keepUndelivered deals with the outcomes that Redis could not be told before the end.
// Those of our own Redis have ended with it.
func (a *App) keepUndelivered() {
	left := a.buffer.Undelivered()
	if a.local == nil {
		a.keepInSpool(left)
		return
	}
	for i := range left {
		a.log.Warn("not reported before the end: lost with the embedded redis",
			append(left[i].Task.LogAttrs(), "outcome", left[i].Conclusion.String())...)
	}
}

// keepInSpool writes outcomes to the spool. It ends with the stop's budget: a disk that does not
// answer once held a stop up until the watchdog ended it, and no outcome was named.
func (a *App) keepInSpool(left []task.Outcome) {
	budget, release := a.clock.until(0)
	defer release()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	go func() { over(done, budget.Done(), spoolAtLeast); cancel() }()
	a.spooler(nil).Write(ctx, a.lastRun, left)
	close(done)
}
