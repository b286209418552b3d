package app

import (
	"context"
	"errors"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/lease"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/web"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/requests"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/stage"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/supervise"
)

// newApp makes what needs neither Redis nor workers.
func newApp(cfg config.Config, h hooks) *App {
	a := &App{
		cfg: cfg, log: cfg.Log, clock: newStopClock(cfg.ShutdownTimeout), hooks: h, local: h.local, telemetry: h.telemetry,
		asked: make(chan struct{}), ended: make(chan struct{}), ready: make(chan struct{}),
		inFlight: lease.NewInFlightSet(), buffer: report.NewBuffer(), mon: link.NewMonitor(cfg.Redis, cfg.Log), lease: new(lease.Lease).Init(),
	}
	a.buffer.MaxBytes = cfg.MaxUnreportedBytes
	a.sink = &report.Sink{Buffer: a.buffer, MaxAttempts: cfg.MaxAttempts, Stop: a.clock, Hangups: &a.hangups}
	exits := dispatch.Exits{Requeue: a.buffer.Requeue, Defer: a.buffer.Defer}
	if n := len(cfg.Kinds); n > 0 {
		a.queue = dispatch.NewKinds(n, exits)
	} else {
		a.queue = dispatch.New(exits)
	}
	a.control = fleet.Control{
		Queue: a.queue, Announce: a.lease.RenewNow, Log: a.log,
		Unblock: func() { go a.redis.endWait() }, // bounded by claimBudget
		Drain:   a.Stop, ShutdownTimeout: cfg.ShutdownTimeout, Restart: a.RestartWorkers,
		RestartSlot: func(slot int) bool { return a.workers.RestartSlot(slot) },
	}
	a.watchdog = observe.Watchdog{
		Claims: a.tracker.Overdue, ClaimLimit: observe.CallLimit(cfg.Redis),
		HandoverLimit: observe.CallLimit(cfg.Redis) + stage.HandoverLimit(&cfg),
		Excused:       func() bool { return a.mon.Lost() || a.queue.IsQuiet() || a.queue.Halted() },
		Busy:          a.queue.IsFull, Handover: a.queue.WatchHandover(),
	}
	a.obs = observe.New(observe.Options{Config: &a.cfg, Snapshot: a.snapshot, Run: a.lease.RunID, Stalled: a.Stalled})
	a.mon.Observed = a.obs.Metrics().RedisError
	return a
}

// wire makes the connections and the stages. Nothing runs yet.
func (a *App) wire() (err error) {
	if a.local != nil {
		a.stopWait.Lost = a.local.Done()
	}
	a.stopWait.Limit, a.stopWait.Log = a.cfg.StopRedisWait, a.log
	if a.redis, err = a.newBackend(); err != nil {
		return err
	}
	a.obs.ReadQueue(a.redis.overview)
	a.mon.Ping, a.mon.CheckIdle = a.redis.Ping, a.redis.checkIdle
	if a.cfg.Mode == config.ModeSupervise {
		a.mon.PingAlone(a.redis.Ping, a.redis.checkServer)
	}
	a.lease.Log, a.lease.Store = a.log, a.redis.Leases
	a.lease.NewRun = func() string { return redis.NewRunID(a.cfg.WorkerID) }
	a.lease.OnFenced = func(run string) {
		a.queue.Drop()
		a.workers.Evict(run)
	}
	a.lease.OnRegistered = func(run string) { a.lastRun = run }
	if err = a.initWorkers(); err == nil {
		// A test's Redis has no page.
		a.server, err = web.Listen(&a.cfg, a.obs, a.mon.Away, a.hooks.backend == nil)
	}
	if err != nil {
		return errors.Join(err, a.redis.Close())
	}
	a.telemetry.Open(&a.cfg)
	return nil
}

func (a *App) initWorkers() (err error) {
	o := stage.Options{
		Config: &a.cfg, Lane: func(kind int) stage.Lane { return a.queue.LaneOf(kind) }, Sink: a.sink,
		Stopping: a.clock.began, Failed: a.Stop, Start: a.hooks.Start, Pool: a.hooks.Pool,
		Replaced: a.obs.Metrics().Replaced, Misbehaved: a.obs.Metrics().Misbehaved,
		Supervise: supervise.Config{
			AllUp: a.becomeReady, StopGrace: a.clock.share(reserveAfterSupervise),
			Await: func(ctx context.Context) (bool, error) { return a.newLink().Await(ctx, a.redis.Ping, a.mon.Timeout) },
		},
	}
	if a.hooks.Sink != nil {
		o.Sink = a.hooks.Sink(a.sink)
	}
	if a.redis.requests != nil {
		a.requests = requests.NewCounter(a.redis.requests)
		o.Requests = a.requests
	}
	a.workers, err = stage.New(o)
	return err
}

// onTick is called with each tick of the lease.
func (a *App) onTick(own, all bool, commands []fleet.Command) {
	a.control.OnTick(own, all, commands)
	if a.parked.Any() && a.waitsLong.Load() {
		go a.redis.endWait() // bounded by claimBudget; no arrival tells of such records
	}
}

// becomeReady notes, once, that a task in the queue would be run now.
func (a *App) becomeReady() {
	a.isReady.Do(func() {
		close(a.ready)
		a.lease.RenewNow()
	})
}

// beginStop halts the queue and quietens the health monitor: what a stop does
// at once, whatever stage's turn it is.
func (a *App) beginStop() {
	a.clock.begin()
	a.mon.Stopping()
	a.queue.Halt()
	a.lease.RenewNow()
}

// settled is called when Redis has answered for outcomes for good.
func (a *App) settled(batch []task.Outcome, verdicts []report.Verdict) {
	a.inFlight.Remove(batch)
	a.tracker.Reported()
	for i := range batch {
		o, v := &batch[i], verdicts[i]
		a.obs.Ended(o, v == report.Stale)
		if a.server != nil {
			a.server.Ended(o, v == report.Stale)
		}
		o.EndSpan(string(v))
	}
}
