//go:build scale

package scale

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/lease"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
)

// member is a sidecar without workers: its own connections, the real lease, and
// claims that are reported at once.
type member struct {
	claims, leases, last *redis.Store
	lease                *lease.Lease
	cancel               context.CancelFunc
	running              sync.WaitGroup
	done                 *atomic.Int64 // records of the whole fleet
	heard                atomic.Int64  // when Redis last answered its lease, Unix ms
}

func start(addr, prefix string, done *atomic.Int64) (*member, error) {
	m := &member{done: done}
	for _, s := range []struct {
		store **redis.Store
		pool  int
	}{{&m.claims, 4}, {&m.leases, 2}, {&m.last, 2}} {
		c, err := redis.NewClient(redis.ClientOptions{
			URL: "redis://" + addr, PoolSize: s.pool, DialTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 5 * time.Second,
		})
		if err != nil {
			return nil, err
		}
		if *s.store, err = redis.New(c, redis.Options{Prefix: prefix, StoreValues: true}); err != nil {
			return nil, err
		}
	}
	m.lease = (&lease.Lease{
		Store: leasing{m}, Log: slog.New(slog.DiscardHandler), OnFenced: func(string) {},
		NewRun: func() string { return redis.NewRunID("fleet") },
	}).Init()
	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	m.running.Go(func() { _ = m.lease.Run(ctx) })
	m.running.Go(func() { m.claiming(ctx) })
	m.running.Go(func() {
		for pause(ctx, 5*time.Second) {
			_ = m.last.Ping(ctx)
		}
	})
	return m, nil
}

// kill ends it as SIGKILL would: nothing is said to Redis any more.
func (m *member) kill() {
	m.cancel()
	for _, s := range []*redis.Store{m.claims, m.leases, m.last} {
		_ = s.Close()
	}
	m.running.Wait()
}

func (m *member) claiming(ctx context.Context) {
	for ctx.Err() == nil {
		run, err := m.lease.Current(ctx)
		if err != nil {
			return
		}
		got, err := m.claims.Claim(ctx, run, rand.Text(), 4)
		if err == nil && len(got) == 0 {
			_, err = m.claims.Wait(ctx, run, time.Second)
		}
		reports := make([]redis.Report, len(got))
		for i, c := range got {
			reports[i] = redis.Report{Delivery: c.Delivery, TaskID: string(c.Record), Success: true}
		}
		for len(reports) > 0 && ctx.Err() == nil {
			if _, err = m.claims.Report(ctx, run, reports); err == nil {
				m.done.Add(int64(len(reports)))
				break
			}
			pause(ctx, 100*time.Millisecond)
		}
		if err != nil {
			pause(ctx, 50*time.Millisecond+time.Duration(randomInt(int64(450*time.Millisecond))))
		}
	}
}

// leasing is the lease's way to Redis, as in app.
type leasing struct{ m *member }

func (l leasing) note(err error) error {
	if err == nil {
		l.m.heard.Store(time.Now().UnixMilli())
	}
	if errors.Is(err, redis.ErrGone) {
		return lease.ErrGone
	}
	return err
}

func (l leasing) Register(ctx context.Context, run string) error {
	return l.note(l.m.leases.Register(ctx, run))
}

func (l leasing) Renew(ctx context.Context, run string) error {
	return l.note(l.m.leases.Renew(ctx, run))
}

func (l leasing) Tick(ctx context.Context, run string) ([]string, error) {
	res, err := l.m.leases.Tick(ctx, run, nil, "")
	for _, dead := range res.Unfinished {
		_, _ = l.m.leases.Reap(ctx, run, dead, 3)
	}
	if err == nil && time.Now().Unix()%5 == 0 {
		_, err = l.m.leases.Reconcile(ctx, run, math.MinInt64, nil)
	}
	return res.Dead, l.note(err)
}

func (l leasing) Reap(ctx context.Context, run, dead string) error {
	_, err := l.m.leases.Reap(ctx, run, dead, 3)
	return l.note(err)
}

func (l leasing) Leave(ctx context.Context, run string) error { return l.m.last.Leave(ctx, run) }

func (l leasing) Recover(ctx context.Context, _ error) error {
	pause(ctx, 50*time.Millisecond+time.Duration(randomInt(int64(450*time.Millisecond))))
	return nil
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func line(cells ...string) string { return "| " + strings.Join(cells, " | ") + " |" }
