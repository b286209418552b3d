// Package app is the sidecar as a library: Start wires the stages of the
// pipeline to Redis and to the worker processes and runs them; Close stops
// them in order. It never reads the environment and never handles signals:
// both belong to the program that embeds it. (OpenTelemetry's SDK reads its own
// variables, where Config.Traces or Config.PushMetrics is set.)
package app

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/health"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/claim"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/lease"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redisserver"
	"github.com/graflow/graflow-sidecar/sidecar/internal/testhook"
	"github.com/graflow/graflow-sidecar/sidecar/internal/web"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/requests"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/stage"
)

// App is a running sidecar. Its methods may be called concurrently.
type App struct {
	cfg   config.Config
	log   *slog.Logger
	clock *stopClock
	local localServer // nil unless the sidecar owns its Redis
	hooks hooks       // of tests

	// The stages, in the order of a record's way.
	queue    *dispatch.Queue
	workers  *stage.Stage
	sink     *report.Sink
	buffer   *report.Buffer
	inFlight *lease.InFlightSet
	lease    *lease.Lease

	redis backend
	mon   *health.Monitor
	// reconnect has what leads to another server than the lease dial anew; nil without Redis.
	reconnect func(ctx context.Context)
	parked    link.Parked
	waitsLong atomic.Bool       // the claim loop does
	requests  *requests.Counter // of the workers; nil where Redis serves none
	stopWait  health.StopWait

	control   fleet.Control
	hangups   local.Hangups
	obs       *observe.Observability
	telemetry observe.Telemetry
	tracker   claim.Tracker
	watchdog  observe.Watchdog
	server    *web.Server // nil without an address

	lastRun string // set by the lease, read when all has ended

	asked   chan struct{} // closed by Stop
	askOnce sync.Once
	ended   chan struct{} // closed when everything has stopped
	err     error         // after ended
	ready   chan struct{}
	isReady sync.Once
}

// localServer is the Redis that the sidecar owns. *redisserver.Server is one.
type localServer interface {
	Done() <-chan struct{} // closed when it has ended
	Err() error            // how, if not by Stop
	Stop(ctx context.Context) error
}

// hooks are for tests: none is set otherwise.
type hooks struct {
	testhook.Set
	backend   func(a *App) backend
	local     localServer
	wrap      func(actor) actor
	telemetry observe.Telemetry
}

// DefaultConfig returns the defaults. With a worker's command in Worker.Command they
// are enough for Start. The workers have an empty environment then: config.ChildEnv makes
// one of the program's own.
func DefaultConfig() config.Config { return config.Default() }

// Start validates the configuration, starts the local Redis if one is wanted,
// and sets everything going. It does not wait for Redis or for the worker: see
// Ready. Cancelling ctx is like calling Stop.
func Start(ctx context.Context, cfg config.Config) (*App, error) {
	return start(ctx, cfg, hooks{Set: testhook.Hooks})
}

func start(ctx context.Context, cfg config.Config, h hooks) (*App, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	err := stage.CheckDirs(&cfg)
	if cfg.SpoolDir != "" {
		err = errors.Join(err, (&report.Spooler{Folder: h.spoolFolder(&cfg), Log: cfg.Log}).Prepare(ctx))
	}
	if err != nil {
		return nil, err
	}
	a := newApp(cfg, h)
	if cfg.Redis.Embedded {
		local, err := redisserver.Start(ctx, redisserver.Options{Log: a.log, Port: cfg.Redis.EmbeddedPort})
		if err != nil {
			return nil, err
		}
		a.local = local
		a.cfg.Redis = a.cfg.Redis.At(local.URL())
		a.log.Info("embedded redis is up", "kind", local.Program(), "url", local.URL())
	}
	if err := a.wire(); err != nil {
		if a.local != nil {
			_ = a.local.Stop(ctx)
		}
		return nil, err
	}
	seq := &sequence{clock: a.clock, log: a.log}
	for _, actor := range a.actors(ctx) {
		if h.wrap != nil {
			actor = h.wrap(actor)
		}
		seq.add(actor)
	}
	go func() {
		_ = seq.group.Run()
		a.keepUndelivered()
		a.err = errors.Join(seq.errs...)
		close(a.ended)
	}()
	return a, nil
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

// Stopping is closed when a stop has begun, for whatever reason.
func (a *App) Stopping() <-chan struct{} { return a.clock.began }

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

// Quiet makes the sidecar claim nothing more until Resume; what runs goes on,
// and everything else stays up. It returns at once; a record that Redis hands
// over in the same moment is given back. Supervised workers claim for themselves
// and go on.
func (a *App) Quiet() {
	if a.cfg.Mode == config.ModeSupervise {
		a.log.Warn("supervised workers cannot be paused")
		return
	}
	a.control.SetQuiet(true)
}

// Resume ends Quiet. A sidecar that is paused through Redis still claims nothing.
func (a *App) Resume() { a.control.SetQuiet(false) }

// RestartWorkers replaces the worker processes by fresh ones, one after another and
// with no task lost. It returns at once. A worker that does not start again
// ends the round: the old ones stay.
func (a *App) RestartWorkers() { a.workers.Restart() }

// Hangup is RestartWorkers for a SIGHUP. One to the whole process tree has ended workers that do
// not handle it: their deaths within a second of it cost their records no attempt.
func (a *App) Hangup() {
	a.hangups.Note()
	a.RestartWorkers()
}

// Dump writes what a person needs to see when a sidecar seems stuck: its state,
// each worker with its tasks, and every goroutine. A lock that is never released does
// not keep it from the goroutines.
func (a *App) Dump(w io.Writer) error { return observe.Dump(w, a.snapshot) }

// Stalled says in words that the loop that claims tasks, or the stage that runs them,
// no longer moves though it should; "" while they do. A Redis that is away, slots that
// are taken, a pause and a stop are no such reasons. A watchdog is to ask it every few
// seconds; it does not return where the stall is a lock that is never released.
func (a *App) Stalled() string {
	if a.cfg.Mode == config.ModeSupervise {
		return "" // the workers take their tasks themselves
	}
	return a.watchdog.Stalled()
}

// HTTP is the address that the sidecar answers at, as a URL; "" without one.
func (a *App) HTTP() string {
	if a.server == nil {
		return ""
	}
	return a.server.URL()
}

// RedisURL is where Redis is, without credentials for one that is not ours.
func (a *App) RedisURL() string { return a.cfg.Redis.Address() }

// ConnectURL is where Redis is, credentials and all, for a client of the same
// Redis; not for the log. Of several addresses it knows none.
func (a *App) ConnectURL() string { return worker.ConnectURL(a.cfg.Redis) }
