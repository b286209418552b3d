package redis

import (
	"context"
	"log/slog"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
)

// Connections are the stores of a sidecar, on clients of their own. None of its loops
// waits for another's reply, and the connections of one can be closed when a stop must
// not wait for Redis: a call that waits for a reply ends with an error then. (The end of
// its context alone would not do it: go-redis looks at deadlines, and only before it
// waits.) A sidecar of mode supervise has Last only.
type Connections struct {
	Claims, Reports, Leases, Requests *Store
	// Last pings, and leaves the run where the connections of Leases are closed.
	Last *Store
	// Stats reads the counts of the metrics. It never delays what the loops do.
	Stats *Store
	// Spool reports outcomes of earlier runs; nil without a spool.
	Spool *Store
}

// briefly bounds calls of which a slow one costs a tick of the lease, a ping or a look.
const briefly = time.Second

// Connect makes them. None connects before it is used, but for idle connections that
// are kept open. lanes is how many requests of workers are served at once. dial is that of
// [ClientOptions]. The error is a *config.Error.
func Connect(cfg *config.Config, lanes int, dial dialFunc) (*Connections, error) {
	SetLogger(cfg.Log)
	o, err := OptionsOf(cfg.Redis)
	if err != nil {
		return nil, err
	}
	o.Dial = dial
	sized := func(o ClientOptions, pool int) ClientOptions {
		o.PoolSize, o.MinIdleConns = pool, 0
		return o
	}
	brief := o
	brief.DialTimeout, brief.ReadTimeout, brief.WriteTimeout = briefly, briefly, briefly
	type client struct {
		store   **Store
		options ClientOptions
	}
	c := new(Connections)
	clients := []client{{&c.Last, sized(brief, 4)}}
	if cfg.Mode != config.ModeSupervise {
		brief.BufferSize = 4 << 10 // a tick is less than a kilobyte
		brief = sized(brief, 2)
		clients = []client{
			{&c.Reports, o},
			{&c.Claims, sized(o, 4)}, // one claims, another ends its wait
			{&c.Leases, brief},
			{&c.Requests, sized(o, lanes)},
			{&c.Last, brief}, // one pings, another leaves
			{&c.Stats, brief},
		}
		if cfg.SpoolDir != "" {
			clients = append(clients, client{&c.Spool, sized(o, 4)}) // one reports, the others keep leases
		}
	}
	for _, one := range clients {
		if *one.store, err = Open(cfg, one.options); err != nil {
			c.Close()
			return nil, err
		}
	}
	return c, nil
}

// Open makes the store of a configuration on a client of its own. The error is a
// *config.Error.
func Open(cfg *config.Config, o ClientOptions) (*Store, error) {
	c, err := NewClient(o)
	if err != nil {
		return nil, &config.Error{Err: err}
	}
	s, err := New(c, Options{
		Prefix: cfg.KeyPrefix, Queue: cfg.QueueKey, QueueRight: cfg.QueueSide == config.QueueRight, StoreValues: !cfg.Redis.Cluster,
		ResultTTL: cfg.ResultTTL, DeadLetterMax: cfg.DeadLetterMax, DeadLetterMaxAge: cfg.DeadLetterMaxAge,
	})
	if err != nil {
		_ = c.Close()
		return nil, &config.Error{Err: err}
	}
	return s, nil
}

// Reconnect has all but those of the lease dial anew.
func (c *Connections) Reconnect(ctx context.Context) {
	for _, s := range []*Store{c.Claims, c.Reports, c.Requests, c.Last, c.Stats} {
		s.Reconnect(ctx)
	}
}

// CheckIdle closes idle connections that have died. Those of Reports alone are ever
// idle: one of the others waits for records, another one pings.
func (c *Connections) CheckIdle(ctx context.Context, log *slog.Logger) {
	if n := c.Reports.CheckIdle(ctx); n > 0 {
		log.Debug("dead idle connections to redis closed", "connections", n)
	}
}

// Close closes what is not closed yet.
func (c *Connections) Close() {
	for _, s := range []*Store{c.Claims, c.Reports, c.Leases, c.Requests, c.Last, c.Stats, c.Spool} {
		if s != nil {
			_ = s.Close() // says only that it was closed before
		}
	}
}

// CheckEviction warns where the server may delete keys of ours when its memory is
// full. A server that does not say its policy, or a user that may not ask, is left
// alone: sidecar doctor has more to say. policy reads it, see [Store.EvictionPolicy].
func CheckEviction(ctx context.Context, policy func(ctx context.Context) (string, error), log *slog.Logger) {
	name, err := policy(ctx)
	if err != nil || name == "" || name == "noeviction" {
		return
	}
	log.Warn("redis may evict keys: set maxmemory-policy to noeviction", "policy", name)
}
