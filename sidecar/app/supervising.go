package app

import (
	"context"
	"slices"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
)

// reserveAfterSupervise is what supervised workers leave of a stop's budget:
// nobody stops after them but Redis.
const reserveAfterSupervise = time.Second

// supervising puts one actor in the place of the whole pipeline, from claim to
// leave: the workers claim and report for themselves, so no run is registered.
// They have Redis for as long as they are there.
func (a *App) supervising(list []actor) []actor {
	a.mon.Ping = a.heard
	at := func(name string) int {
		return slices.IndexFunc(list, func(x actor) bool { return x.name == name })
	}
	return slices.Replace(list, at("claim"), at("leave")+1, actor{
		name: "supervise", reserve: reserveAfterSupervise, run: func(soft, hard context.Context) error {
			// The second signal ends them at once, whatever is left of the budget.
			hard, letGo := context.WithCancel(hard)
			defer letGo()
			defer context.AfterFunc(a.clock.rush, letGo)()
			return a.pool.Run(soft, hard)
		},
	})
}

// heard pings for the health monitor where no other operation would tell it
// that Redis is back.
func (a *App) heard(ctx context.Context) error {
	err := a.redis.ping(ctx)
	if err == nil {
		a.mon.OK()
		a.checkOnce.Do(func() { a.checkEviction(ctx) })
	}
	return err
}

// awaitRedis waits until Redis answers, and reports whether it had to. It
// returns an error where Redis refuses us for good.
func (a *App) awaitRedis(ctx context.Context) (waited bool, err error) {
	k := a.newLink()
	for ctx.Err() == nil {
		ping, done := context.WithTimeout(ctx, a.mon.Timeout)
		err := a.redis.ping(ping)
		done()
		switch {
		case err == nil:
			k.OK()
			return waited, nil
		case ctx.Err() != nil:
		default:
			waited = true
			if err := k.Recover(ctx, err); err != nil {
				return waited, err
			}
		}
	}
	return waited, nil
}

// pingsOnly is the backend of a sidecar that claims nothing: one client.
func (a *App) pingsOnly(o redis.ClientOptions) (backend, error) {
	o.PoolSize, o.MinIdleConns = 4, 0
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = time.Second, time.Second, time.Second
	st, err := a.open(o)
	if err != nil {
		return backend{}, err
	}
	return backend{
		ping:     st.Ping,
		eviction: st.EvictionPolicy,
		unblock:  func(context.Context) error { return nil },
		// Nobody waits for a reply that must not be waited for.
		cutClaims: func() {}, cutReports: func() {}, cutLeases: func() {}, cutRequests: func() {}, cutLast: func() { _ = st.Close() },
		close: func() error {
			_ = st.Close() // it may be cut already
			return nil
		},
	}, nil
}

// allUp notes that every supervised worker runs.
func (a *App) allUp() { a.becomeReady() }

// wanted is how many workers there must be for a sidecar to be ready.
func (a *App) wanted() int {
	if a.cfg.Mode == config.ModeSupervise {
		return a.cfg.Replicas
	}
	return 1
}
