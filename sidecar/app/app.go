// Package app is the sidecar as a library: Start wires the stages of the
// pipeline to Redis and to the worker processes and runs them; Close stops
// them in order. It never reads the environment and never handles signals:
// both belong to whoever calls it (package main does).
package app

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/health"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/claim"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/lease"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report/spool"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redisserver"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/requests"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// App is a running sidecar. Its methods may be called concurrently.
type App struct {
	cfg     config.Config
	log     *slog.Logger
	clock   *stopClock
	hangups local.Hangups
	sink    *report.Sink
	local   localServer // nil unless the sidecar owns its Redis
	hooks   hooks       // of tests

	mon      *health.Monitor
	lease    *lease.Lease
	queue    *dispatch.Queue
	pool     worker.Pool // the stage of the mode
	fork     forking
	away     elsewhere
	box      *report.Box
	held     *lease.InFlight
	tracker  claim.Tracker
	handover dispatch.HandoverWatch
	seen     seen
	redis    backend
	// reconnect has what leads to another server than the lease dial anew; nil without Redis.
	reconnect func(ctx context.Context)
	holds     holds // why nothing is claimed

	requests *requests.Counter // of the workers; nil where Redis serves none
	stopWait health.StopWait

	aside     link.Aside
	waitsLong atomic.Bool // the claim loop does
	lastRun   string      // set by the lease, read when all has ended

	asked   chan struct{} // closed by Stop
	askOnce sync.Once
	ended   chan struct{} // closed when everything has stopped
	err     error         // after ended
	ready   chan struct{}
	isReady sync.Once
	// checkOnce is for what a supervising sidecar looks at when it first reaches Redis.
	checkOnce sync.Once
}

// DefaultConfig returns the defaults; a worker's command, WorkerID and Log are left
// to fill in.
func DefaultConfig() config.Config { return config.Default() }

// Start validates the configuration, starts the local Redis if one is wanted,
// and sets everything going. It does not wait for Redis or for the worker: see
// Ready. Cancelling ctx is like calling Stop.
func Start(ctx context.Context, cfg config.Config) (*App, error) { return start(ctx, cfg, standard) }

func start(ctx context.Context, cfg config.Config, h hooks) (*App, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	err := checkFolders(&cfg)
	if cfg.SpoolDir != "" {
		err = errors.Join(err, spool.Prepare(cfg.SpoolDir))
	}
	if err != nil {
		return nil, err
	}
	a := &App{
		cfg: cfg, log: cfg.Log, clock: newStopClock(cfg.ShutdownTimeout),
		asked: make(chan struct{}), ended: make(chan struct{}), ready: make(chan struct{}),
		held: lease.NewInFlight(), box: report.NewBox(), mon: health.New(), lease: new(lease.Lease).Init(),
		hooks: h, local: h.local,
	}
	a.box.MaxBytes = cfg.MaxUnreportedBytes
	a.sink = &report.Sink{Box: a.box, MaxAttempts: cfg.MaxAttempts, Stop: a.clock, Hangups: &a.hangups}
	if cfg.Redis.Embedded {
		local, err := redisserver.Start(ctx, redisserver.Options{Log: a.log, Port: cfg.Redis.EmbeddedPort})
		if err != nil {
			return nil, err
		}
		a.local = local
		a.cfg.Redis = a.cfg.Redis.At(local.URL())
		a.log.Info("embedded redis is up", "kind", local.Kind(), "url", local.URL())
	}
	if err := a.wire(); err != nil {
		a.stopLocal(ctx)
		return nil, err
	}
	a.stopWait.Limit, a.stopWait.Log, a.stopWait.Lost = cfg.StopRedisWait, a.log, a.localDone()
	seq := &sequence{clock: a.clock, log: a.log}
	for _, actor := range a.actors(ctx) {
		seq.add(h.wrapped(actor))
	}
	go func() {
		_ = seq.group.Run()
		a.keepUndelivered()
		a.err = errors.Join(seq.errs...)
		close(a.ended)
	}()
	return a, nil
}

// wire makes the stages. Nothing runs yet.
func (a *App) wire() error {
	a.queue = a.newQueue()
	var err error
	if a.redis, err = a.backend(); err != nil {
		return err
	}
	a.mon.Ping, a.mon.Reached, a.mon.Name = a.redis.ping, redis.Answered, redis.ClassName
	a.mon.Interval, a.mon.Timeout, a.mon.Log = a.cfg.Redis.PingInterval, time.Second, a.log
	a.mon.CheckIdle, a.mon.IdleInterval, a.mon.Pause = a.redis.checkIdle, a.cfg.Redis.HealthCheckInterval, redis.RetryPause(a.cfg.Redis)

	if a.redis.requests != nil {
		a.requests = requests.NewCounter(a.redis.requests)
		a.redis.requests = a.requests
	}
	if a.pool, err = a.workers(); err != nil {
		return errors.Join(err, a.redis.close())
	}
	a.lease.Log, a.lease.Store = a.log, a.redis.leases
	a.lease.NewRun = func() string { return redis.NewRunID(a.cfg.WorkerID) }
	a.lease.Lost = func(run string) {
		a.queue.Drop()
		a.pool.Evict(run)
	}
	a.lease.Registered = func(run string) { a.lastRun = run }
	return a.see()
}

// actors lists the stages in the order in which they stop: senders before
// receivers, and Redis after everyone who speaks to it.
func (a *App) actors(ctx context.Context) []actor {
	claiming := &claim.Loop{
		Source: a.redis.source, Room: a.queue, Backlog: a.box.Room, Tracker: &a.tracker, NewNonce: rand.Text, Log: a.log,
		MaxAttempts: a.cfg.MaxAttempts, Refuse: a.box.DeadLetter, Claimed: a.held.Add, Progress: a.progress,
		Check: protocol.CheckJSON, Route: a.routes(), Longest: a.longest, GiveBack: a.box.GiveBack, Trace: a.trace,
	}
	list := []actor{
		// stop: waits for the word. Its end, or any other actor's, begins the stop.
		{name: "stop", run: func(soft, _ context.Context) error {
			select {
			case <-a.asked:
			case <-ctx.Done():
			case <-soft.Done():
			}
			a.beginStop()
			return nil
		}},
		// claim: first, so that nothing new becomes ours.
		{name: "claim", within: claimBudget, run: func(soft, hard context.Context) error {
			defer context.AfterFunc(soft, a.unblock)()
			// A reply that does not come must not hold the others up: what it
			// would have told is in Redis under our name and goes back with it.
			defer context.AfterFunc(hard, a.redis.cutClaims)()
			return claiming.Run(soft, hard)
		}},
		// dispatch: what was claimed and not started goes to the report stage, all
		// of it: the claim stage has read its last reply. (Nothing is started
		// since the first word of the stop, which halted the queue.)
		{name: "dispatch", run: func(soft, _ context.Context) error {
			<-soft.Done()
			a.queue.Close()
			return nil
		}},
		// process: the children finish what they have.
		{name: "process", reserve: reserveAfterProcess, run: a.runWorkers},
		// report: after everyone who has something to report.
		{name: "report", reserve: reserveAfterReport, atLeast: speakAtLeast, run: a.runReports},
		// lease: after the last report, which is only accepted from a live run.
		{name: "lease", reserve: reserveAfterLeave, run: func(soft, hard context.Context) error {
			defer context.AfterFunc(hard, a.redis.cutLeases)()
			return a.lease.Run(soft)
		}},
		// leave: apart from the lease, so that the run is left and what it held
		// goes back also where the lease has failed.
		{name: "leave", reserve: reserveAfterLeave, atLeast: speakAtLeast, run: a.runLeave},
		// health: everyone above waits by it while Redis is away. Its pings have
		// the connections of stages that are over.
		{name: "health", run: func(soft, _ context.Context) error {
			defer context.AfterFunc(soft, func() { a.redis.cutLast(); a.redis.cutReports() })()
			return a.mon.Run(soft)
		}},
		// redis: the connections close when nobody speaks any more.
		{name: "redis", run: func(soft, _ context.Context) error {
			<-soft.Done()
			return a.redis.close()
		}},
	}
	list = a.spooling(list)
	list = a.tracing(list)
	if a.cfg.Mode == config.ModeSupervise {
		list = a.supervising(list)
	}
	if a.local != nil {
		list = append(list, actor{name: "local redis", run: a.runLocal})
	}
	return a.answering(list)
}

// claimBudget is how long the claim stage may take to stop: it waits for at
// most one reply of Redis.
const claimBudget = time.Second

// unblock ends the claim stage's blocked wait from another connection. Where
// that fails the wait ends by itself, or with claimBudget.
func (a *App) unblock() {
	ctx, cancel := context.WithTimeout(context.Background(), claimBudget/2)
	defer cancel()
	_ = a.redis.unblock(ctx)
}

// progress notes that the claim loop got an answer from Redis.
func (a *App) progress() {
	if a.staffed() {
		a.becomeReady()
	}
}

// becomeReady notes, once, that a task in the queue would be run now.
func (a *App) becomeReady() {
	a.isReady.Do(func() {
		close(a.ready)
		a.lease.Announce()
	})
}

// beginStop halts the queue and quietens the health monitor: what a stop does
// at once, whatever stage's turn it is.
func (a *App) beginStop() {
	a.clock.begin()
	a.mon.Stopping()
	a.queue.Halt()
	a.lease.Announce()
}

// Ready is closed when a worker is up and Redis has answered the claim loop.
func (a *App) Ready() <-chan struct{} { return a.ready }

// Stop asks for a stop and returns at once: nothing more is claimed or
// started, what runs is finished within the budget of Config.ShutdownTimeout,
// which counts from now.
func (a *App) Stop() {
	a.askOnce.Do(func() {
		a.beginStop()
		close(a.asked)
	})
}

// Abort asks for a stop that lets go at once: what runs is cut short and
// handed back.
func (a *App) Abort() {
	a.Stop()
	a.clock.letGo()
}

// Done is closed when everything has stopped.
func (a *App) Done() <-chan struct{} { return a.ended }

// Wait waits until everything has stopped and returns why, if it was not asked
// to: see StartError, CrashLoopError, RefusedError, LocalRedisError and PanicError.
func (a *App) Wait() error {
	<-a.ended
	return a.err
}

// WaitContext is Wait for as long as ctx allows. It returns the cause of ctx's
// end where that comes first; the sidecar, or its stop, goes on then.
func (a *App) WaitContext(ctx context.Context) error {
	select {
	case <-a.ended:
		return a.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close stops and waits.
func (a *App) Close() error {
	a.Stop()
	return a.Wait()
}

// Stopping is closed when a stop has begun, whoever asked for it.
func (a *App) Stopping() <-chan struct{} { return a.clock.began }

// RedisURL is where Redis is, without credentials for one that is not ours.
func (a *App) RedisURL() string { return a.cfg.Redis.Address() }
