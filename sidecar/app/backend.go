package app

import (
	"context"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/claim"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/lease"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report/spool"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"
	"github.com/graflow/graflow-sidecar/sidecar/internal/testhook"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/requests"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
)

// backend is Redis as the actors see it, all of it: a test of the order in
// which they stop puts a Redis of its own in here.
type backend struct {
	testhook.Redis
	// requests serves what workers ask; nil refuses it.
	requests rpc.Requests
	// checkIdle closes idle connections that do not answer.
	checkIdle func(ctx context.Context)
	// overview says what stands in the queue; nil where there is none.
	overview func(ctx context.Context) (fleet.Queue, error)
	// checkServer looks at the settings of the server; nil in a test without one.
	checkServer func(ctx context.Context)
	// spool reports what earlier runs have left in the spool, and returns when that is
	// done or ctx ends; nil without a spool.
	spool func(ctx context.Context)
	// unblock ends the claim stage's blocked wait from another connection.
	unblock func(ctx context.Context) error
	// Each of these closes the connections of one stage: a call that waits for
	// a reply ends with an error then.
	closeClaims, closeReports, closeLeases, closeRequests, closeLast, closeSpool func()
}

// endWait ends the claim stage's blocked wait. Where that fails the wait ends by itself,
// or with claimBudget.
func (b *backend) endWait() {
	ctx, cancel := context.WithTimeout(context.Background(), claimBudget/2)
	defer cancel()
	_ = b.unblock(ctx)
}

// newBackend makes the clients. None of them connects before it is used, but for
// idle connections that are kept open.
func (a *App) newBackend() (b backend, err error) {
	if a.hooks.backend != nil {
		return a.hooks.backend(a), nil
	}
	c, err := redis.Connect(&a.cfg, requests.Lanes, a.hooks.Dial)
	if err != nil {
		return backend{}, err
	}
	if a.cfg.Mode == config.ModeSupervise {
		b = supervisedBackend(c)
	} else {
		b = a.pipelineBackend(c)
	}
	policy := c.Last.EvictionPolicy
	b.Ping, b.checkServer = c.Last.Ping, func(ctx context.Context) { redis.CheckEviction(ctx, policy, a.log) }
	b.closeLast = func() { _ = c.Last.Close() }
	b.Close = func() error { c.Close(); return nil }
	if a.hooks.Redis != nil {
		a.hooks.Redis(&b.Redis)
	}
	return b, nil
}

// supervisedBackend is for a sidecar that claims nothing: no call has a reply that a
// stop must not wait for.
func supervisedBackend(c *redis.Connections) backend {
	return backend{
		unblock:     func(context.Context) error { return nil },
		closeClaims: func() {}, closeReports: func() {}, closeLeases: func() {}, closeRequests: func() {},
	}
}

func (a *App) pipelineBackend(c *redis.Connections) backend {
	a.reconnect = c.Reconnect
	source := claim.RedisOptions{
		Store: c.Claims, NewLink: a.newLink, PollInterval: a.cfg.PollInterval, MaxAttempts: a.cfg.MaxAttempts,
		Paused: a.control.IsSilent, OnArrival: a.queue.NotifyArrival, Parked: &a.parked, CanIsolate: a.queue.CanIsolate,
	}
	b := backend{
		requests: requests.New(a.mon, a.log, c.Requests, a.cfg.Worker.MaxMessageBytes),
		overview: func(ctx context.Context) (fleet.Queue, error) {
			if a.mon.Away() {
				return fleet.Queue{}, link.ErrUnavailable
			}
			return c.Stats.Overview(ctx)
		},
		checkIdle: func(ctx context.Context) { c.CheckIdle(ctx, a.log) },
		unblock: func(ctx context.Context) error {
			if a.mon.Away() {
				return link.ErrUnavailable
			}
			return c.Claims.Unblock(ctx)
		},
		closeClaims: func() { _ = c.Claims.Close() }, closeReports: func() { _ = c.Reports.Close() },
		closeLeases: func() { _ = c.Leases.Close() }, closeRequests: func() { _ = c.Requests.Close() },
	}
	if len(a.cfg.Kinds) > 0 {
		b.Source = claim.NewRoutedRedis(source, a.queue, a.cfg.Patterns(), a.cfg.UnroutedTimeout)
	} else {
		source.LongWait = &a.waitsLong
		b.Source = claim.NewRedis(source)
	}
	b.Outcomes = report.NewRedis(a.reportOptions(c.Reports, ""))
	b.Leases = lease.NewRedis(lease.RedisOptions{
		Store: c.Leases, Last: c.Last, Link: a.newLink(), Log: a.log, MaxAttempts: a.cfg.MaxAttempts, InFlight: a.inFlight, Parked: &a.parked,
		Describe: a.obs.About, Trace: a.telemetry.Trace, OnTick: a.onTick, OnRegistered: a.control.OnRegistered, DeadLetter: a.buffer.Add,
		DeadTrimmed: a.obs.Metrics().DeadTrimmed,
		CheckServer: func(ctx context.Context) { redis.CheckEviction(ctx, c.Leases.EvictionPolicy, a.log) },
	})
	if c.Spool != nil {
		b.spool = func(ctx context.Context) { a.spooler(c.Spool).Replay(ctx, c.Spool) }
		b.closeSpool = func() { _ = c.Spool.Close() }
	}
	return b
}

// newLink makes a loop's way to Redis.
func (a *App) newLink() *link.Link {
	return link.New(a.lease, a.mon, redis.RetryPause(a.cfg.Redis), a.reconnect)
}

// reportOptions are those of what reports for a run; "" is the current one.
func (a *App) reportOptions(st *redis.Store, run string) report.RedisOptions {
	return report.RedisOptions{Store: st, Link: a.newLink(), MaxAttempts: a.cfg.MaxAttempts, RetryAfter: a.cfg.Retry.Delay, Run: run}
}

// spoolFolder is the folder of SIDECAR_SPOOL_DIR.
func (h *hooks) spoolFolder(cfg *config.Config) spool.Folder {
	return spool.Folder{Path: cfg.SpoolDir, FileSystem: h.SpoolFiles}
}

// spooler makes what keeps and reports outcomes on disk.
func (a *App) spooler(st *redis.Store) *report.Spooler {
	return &report.Spooler{
		Folder: a.hooks.spoolFolder(&a.cfg), Server: a.cfg.Redis.Address(), Prefix: a.cfg.KeyPrefix, Log: a.log,
		NewRedis: func(run string) *report.Redis { return report.NewRedis(a.reportOptions(st, run)) },
	}
}
