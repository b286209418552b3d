package lease_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/lease"
)

// ttl is the duration of a lease in Redis.
const ttl = 6 * time.Second

// shared is one Redis for several leases, whose keys expire.
type shared struct {
	mu     sync.Mutex
	down   bool
	back   chan struct{} // closed when down ends
	alive  map[string]time.Time
	looked time.Time            // when the members were last looked at
	since  map[string]time.Time // when a member was first absent
	reaped []string
}

// view is the Store of one sidecar over shared.
type view struct {
	*shared
	rnd *rand.Rand
}

func (v view) do(f func() error) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.down {
		return errDown
	}
	return f()
}

func (v view) Register(ctx context.Context, run string) error { return v.Renew(ctx, run) }

func (v view) Renew(_ context.Context, run string) error {
	return v.do(func() error { v.alive[run] = time.Now().Add(ttl); return nil })
}

// Tick does what tick.lua does with leases.
func (v view) Tick(_ context.Context, run string) (dead []string, err error) {
	err = v.do(func() error {
		now := time.Now()
		v.alive[run] = now.Add(ttl)
		age := now.Sub(v.looked)
		if age < 500*time.Millisecond {
			return nil
		}
		from := now
		if age > 1500*time.Millisecond {
			clear(v.since)
			from = now.Add(time.Second)
		}
		v.looked = now
		for other, until := range v.alive {
			if until.After(now) {
				delete(v.since, other)
			} else if _, known := v.since[other]; !known {
				v.since[other] = from
			} else if now.Sub(v.since[other]) > 1500*time.Millisecond {
				dead = append(dead, other)
			}
		}
		return nil
	})
	return dead, err
}

func (v view) Reap(_ context.Context, run, dead string) error {
	return v.do(func() error {
		v.reaped = append(v.reaped, dead)
		delete(v.alive, dead)
		return nil
	})
}

func (v view) Leave(context.Context, string) error { return nil }

// Recover waits like the health monitor, which pings Redis from time to time during an
// outage.
func (v view) Recover(ctx context.Context, _ error) error {
	v.mu.Lock()
	back := v.back
	v.mu.Unlock()
	select {
	case <-back:
	case <-ctx.Done():
		return nil
	}
	select {
	case <-time.After(time.Duration(v.rnd.IntN(1050)) * time.Millisecond): // a ping's pause and a first retry's
	case <-ctx.Done():
	}
	return nil
}

// TestAnOutageEndsNoRun: after an outage in which all leases expired, the sidecars that
// are back first must not reap the others, whenever each of them notices.
func TestAnOutageEndsNoRun(t *testing.T) {
	for seed := range uint64(200) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			redis := &shared{back: make(chan struct{}), alive: map[string]time.Time{}, since: map[string]time.Time{}}
			soft, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for i := range 8 {
				time.Sleep(time.Duration(rnd.IntN(1000)) * time.Millisecond)
				l := (&lease.Lease{
					Store: view{redis, rand.New(rand.NewPCG(seed, uint64(i)))}, Log: slog.New(slog.DiscardHandler),
					NewRun:   func() string { return fmt.Sprint("run", i) },
					OnFenced: func(run string) { t.Errorf("%s lost", run) },
				}).Init()
				wg.Go(func() {
					if err := l.Run(soft); err != nil {
						t.Error(err)
					}
				})
			}
			time.Sleep(time.Duration(5000+rnd.IntN(2000)) * time.Millisecond)
			redis.mu.Lock()
			redis.down = true
			redis.mu.Unlock()
			time.Sleep(time.Duration(7000+rnd.IntN(60_000)) * time.Millisecond)
			redis.mu.Lock()
			redis.down = false
			close(redis.back)
			redis.mu.Unlock()
			time.Sleep(10 * time.Second)
			stop()
			wg.Wait()
			if len(redis.reaped) > 0 {
				t.Errorf("seed %d: reaped %v", seed, redis.reaped)
			}
		})
	}
}
