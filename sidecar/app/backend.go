package app

import (
	"context"
	"errors"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/claim"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/lease"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/requests"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// backend is Redis as the actors see it, all of it: a test of the order in
// which they stop puts a Redis of its own in here.
type backend struct {
	source   claim.Source
	outcomes report.Store
	leases   lease.Store
	// requests serves what workers ask; nil refuses it.
	requests rpc.Requests
	ping     func(ctx context.Context) error
	// checkIdle has connections that lie idle answer, and closes those that do
	// not.
	checkIdle func(ctx context.Context)
	// overview says what stands in the queue; nil where there is none.
	overview func(ctx context.Context) (fleet.Queue, error)
	// eviction is the server's eviction policy; nil where there is none to ask for.
	eviction func(ctx context.Context) (string, error)
	// spool reports what earlier runs have left in the spool, and returns when that is
	// done or ctx ends; nil without a spool.
	spool func(ctx context.Context)
	// unblock ends the claim stage's blocked wait from another connection.
	unblock func(ctx context.Context) error
	// Each of these closes the connections of one stage: a call that waits for
	// a reply ends with an error then. (The end of its context alone would not
	// do it: go-redis looks at deadlines, and only before it waits.)
	cutClaims, cutReports, cutLeases, cutRequests, cutLast, cutSpool func()
	// close closes what is not cut yet.
	close func() error
}

// localServer is the Redis that we own. *localredis.Server is one.
type localServer interface {
	Done() <-chan struct{} // closed when it has ended
	Err() error            // how, if not by Stop
	Stop(ctx context.Context) error
}

// hooks are for tests: none is set otherwise.
type hooks struct {
	backend func(a *App) backend
	around  func(backend) backend // of the real one
	sink    func(rpc.Sink) rpc.Sink
	local   localServer
	start   local.Start
	wrap    func(actor) actor
	workers func(a *App) worker.Pool // instead of the mode's
	about   func(run string) (text []byte, label string)
}

// standard are the hooks of Start: none but in a binary that the lifecycle tests
// break, see break_lifecycle.go, or that a benchmark runs without workers, see
// null_bench.go.
var standard hooks

func (h hooks) wrapped(x actor) actor {
	if h.wrap == nil {
		return x
	}
	return h.wrap(x)
}

// backend makes the clients. None of them connects before it is used, but for
// idle connections that are kept open.
//
// Each of them has connections of its own, so that none waits for
// another's reply, and so that the one that blocks can be closed when a stop
// must not wait for Redis.
func (a *App) backend() (backend, error) {
	if a.hooks.backend != nil {
		return a.hooks.backend(a), nil
	}
	redis.SetLogger(a.log)
	o, err := redis.OptionsOf(a.cfg.Redis)
	if err != nil {
		return backend{}, err
	}
	if a.cfg.Mode == config.ModeSupervise {
		return a.pingsOnly(o)
	}
	claiming := o
	claiming.PoolSize, claiming.MinIdleConns = 4, 0 // one claims, another ends its wait
	asking := o
	asking.PoolSize, asking.MinIdleConns = requests.Lanes, 0 // one for each lane
	// Short timeouts for the lease: a slow answer costs one tick.
	leasing := o
	leasing.PoolSize, leasing.MinIdleConns = 2, 0
	leasing.DialTimeout, leasing.ReadTimeout, leasing.WriteTimeout = time.Second, time.Second, time.Second
	leasing.BufferSize = 4 << 10 // a tick is less than a kilobyte
	last := leasing              // one pings, another leaves: both are needed when a lease's call is cut
	// Who only looks must be in nobody's way.
	looking := leasing

	var reports, claims, leases, requests, lasts, sights *redis.Store
	for _, c := range []struct {
		store   **redis.Store
		options redis.ClientOptions
	}{{&reports, o}, {&claims, claiming}, {&leases, leasing}, {&requests, asking}, {&lasts, last}, {&sights, looking}} {
		if *c.store, err = a.open(c.options); err != nil {
			return backend{}, errors.Join(err, closeAll(reports, claims, leases, requests, lasts, sights))
		}
	}
	b := a.onRedis(reports, claims, leases, requests, lasts, sights)
	if a.cfg.SpoolDir != "" {
		spooled := o
		spooled.PoolSize, spooled.MinIdleConns = 4, 0 // one reports, the others keep leases
		forSpool, err := a.open(spooled)
		if err != nil {
			return backend{}, errors.Join(err, b.close())
		}
		b.spool = func(ctx context.Context) { a.spooler(forSpool).Apply(ctx, forSpool) }
		b.cutSpool = func() { _ = forSpool.Close() }
	}
	if a.hooks.around != nil {
		b = a.hooks.around(b)
	}
	return b, nil
}

func (a *App) open(o redis.ClientOptions) (*redis.Store, error) {
	c, err := redis.NewClient(o)
	if err != nil {
		return nil, &config.Error{Err: err}
	}
	s, err := redis.New(c, redis.Options{
		Prefix: a.cfg.KeyPrefix, QueueRight: a.cfg.QueueSide == config.QueueRight, StoreValues: !a.cfg.Redis.Cluster,
	})
	if err != nil {
		_ = c.Close()
		return nil, &config.Error{Err: err}
	}
	return s, nil
}

// source is the queue as the claim loop's source.
func (a *App) source(st *redis.Store) claim.Source {
	o := claim.RedisOptions{
		Store: st, NewLink: a.newLink, PollInterval: a.cfg.PollInterval, MaxAttempts: a.cfg.MaxAttempts,
		Silent: a.holds.isSilent, Arrived: a.queue.Brought, Aside: &a.aside, CanIsolate: a.queue.CanIsolate,
	}
	if len(a.cfg.Kinds) > 0 {
		return claim.NewRoutedRedis(o, a.queue, a.cfg.Patterns(), a.cfg.UnroutedTimeout)
	}
	o.LongWait = &a.waitsLong
	return claim.NewRedis(o)
}

// newLink makes a loop's way to Redis.
func (a *App) newLink() *link.Link {
	return link.New(a.lease, a.mon, redis.RetryPause(a.cfg.Redis), a.reconnect)
}

// reportOptions are those of what reports for a run; "" is the current one.
func (a *App) reportOptions(st *redis.Store, run string) report.RedisOptions {
	return report.RedisOptions{Store: st, Link: a.newLink(), MaxAttempts: a.cfg.MaxAttempts, RetryAfter: a.cfg.Retry.Delay, Run: run}
}

// onRedis is the real backend, over six clients.
func (a *App) onRedis(forReports, forClaims, forLeases, forRequests, forLast, forSight *redis.Store) backend {
	a.reconnect = func(ctx context.Context) {
		for _, s := range []*redis.Store{forClaims, forReports, forRequests, forLast, forSight} {
			s.Reconnect(ctx)
		}
	}
	return backend{
		source:   a.source(forClaims),
		outcomes: report.NewRedis(a.reportOptions(forReports, "")),
		leases: lease.NewRedis(lease.RedisOptions{
			Store: forLeases, Last: forLast, Link: a.newLink(), MaxAttempts: a.cfg.MaxAttempts, InFlight: a.held, Aside: &a.aside,
			About: a.about, Trace: a.trace, OnTick: a.told, OnRegistered: a.holds.silence, DeadLetter: a.box.Done, CheckServer: a.checkEviction,
		}),
		eviction: forLeases.EvictionPolicy,
		ping:     forLast.Ping,
		overview: forSight.Overview,
		// The others' are never idle: one waits for records, the other pings.
		checkIdle: func(ctx context.Context) {
			if n := forReports.CheckIdle(ctx); n > 0 {
				a.log.Debug("dead idle connections to redis closed", "connections", n)
			}
		},
		unblock: func(ctx context.Context) error {
			if a.mon.Away() {
				return link.ErrAway
			}
			return forClaims.Unblock(ctx)
		},
		cutClaims:   func() { _ = forClaims.Close() },
		cutReports:  func() { _ = forReports.Close() },
		cutLeases:   func() { _ = forLeases.Close() },
		cutRequests: func() { _ = forRequests.Close() },
		cutLast:     func() { _ = forLast.Close() },
		requests:    requests.New(a.mon, a.log, forRequests, a.cfg.Worker.MaxMessageBytes),
		close: func() error {
			_ = closeAll(forReports, forClaims, forLeases, forRequests, forLast, forSight) // they may be cut already
			return nil
		},
	}
}

func closeAll(stores ...*redis.Store) error {
	var errs []error
	for _, s := range stores {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}
