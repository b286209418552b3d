// Package health knows whether Redis is there. Every operation tells it how it
// went; it logs a loss once and a return once, and lets loops wait in between
// without each of them trying for itself.
package health

import (
	"context"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
)

// remindEvery is how often an outage is mentioned while it lasts.
const remindEvery = 10 * time.Second

// Monitor holds the connection's state. Methods may be called concurrently.
type Monitor struct {
	// Ping asks Redis for a sign of life. A reply of any kind, also a refusal,
	// is one: under MISCONF a PING fails while reads work.
	Ping func(ctx context.Context) error
	// Reached says that an error is a reply of a server that is up.
	Reached func(err error) bool
	// Name gives an error its short name for the log, such as conn_refused.
	Name     func(err error) string
	Interval time.Duration // the longest silence before a ping, while all is well
	Timeout  time.Duration // of one ping
	// Pause is between pings while Redis is away; the default begins with 50 ms
	// and ends with half a second.
	Pause backoff.Policy
	// CheckIdle, if set, is called every IdleInterval, for Timeout at most: it
	// makes connections that lie idle prove themselves, so that one which died
	// in silence (a router that forgot it) is found before it is needed.
	CheckIdle    func(ctx context.Context)
	IdleInterval time.Duration
	// Observed, if set, is told the name of every error that Failed is. It must
	// not block.
	Observed func(name string)
	Log      *slog.Logger

	mu       sync.Mutex
	stopping bool
	heard    time.Time // when an operation last succeeded
	lost     time.Time // when operations began to fail; zero while they succeed
	reminded time.Time
	gone     bool          // no connection: nothing is tried before a ping gets through
	unheard  bool          // Run has returned: no ping will ever get through
	back     chan struct{} // closed when gone ends
	probe    chan struct{} // one token: ping now
}

// New returns a monitor that believes Redis to be there.
func New() *Monitor {
	return &Monitor{back: make(chan struct{}), probe: make(chan struct{}, 1)}
}

// OK tells of an operation that succeeded.
func (m *Monitor) OK() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reachedLocked()
	m.heard = time.Now()
	if m.lost.IsZero() {
		return
	}
	m.Log.Info("redis is back", "after", time.Since(m.lost).Round(time.Millisecond).String())
	m.lost = time.Time{}
}

// PingAlone sets Ping for a sidecar that does nothing else on Redis: a ping that
// succeeds is an operation that succeeds. first, if not nil, is called after the first
// one.
func (m *Monitor) PingAlone(ping func(ctx context.Context) error, first func(ctx context.Context)) {
	m.Ping = func(ctx context.Context) error { // one at a time
		err := ping(ctx)
		if err == nil {
			m.OK()
			if first != nil {
				first(ctx)
			}
			first = nil
		}
		return err
	}
}

func (m *Monitor) reachedLocked() {
	if m.gone {
		m.gone = false
		close(m.back)
		m.back = make(chan struct{})
	}
}

// Failed tells of an operation that failed for a reason that passes.
func (m *Monitor) Failed(err error) {
	if m.Observed != nil {
		m.Observed(m.Name(err))
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if !m.Reached(err) && !m.gone && !m.unheard {
		m.gone = true
		select {
		case m.probe <- struct{}{}:
		default:
		}
	}
	level := slog.LevelWarn
	if m.stopping {
		level = slog.LevelDebug // during a stop a lost Redis is no error
	}
	switch {
	case m.lost.IsZero():
		m.lost, m.reminded = now, now
		m.Log.Log(context.Background(), level, "redis is lost, waiting for it", "class", m.Name(err), "error", err.Error())
	case now.Sub(m.reminded) >= remindEvery:
		m.reminded = now
		m.Log.Log(context.Background(), level, "redis is still lost", "class", m.Name(err), "for", now.Sub(m.lost).Round(time.Second).String())
	}
}

// Stopping tells that from now on a lost Redis is nothing to write about.
func (m *Monitor) Stopping() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.stopping = true
}

// Lost reports whether the last operation failed.
func (m *Monitor) Lost() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return !m.lost.IsZero()
}

// LostSince is when operations began to fail; zero while they succeed.
func (m *Monitor) LostSince() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lost
}

// OutageSince is when the outage began in which calls of a loop have failed since
// failing, which is zero while they succeed. The outage may have begun before the loop
// had something to call for.
func (m *Monitor) OutageSince(failing time.Time) time.Time {
	if lost := m.LostSince(); !failing.IsZero() && !lost.IsZero() && lost.Before(failing) {
		return lost
	}
	return failing
}

// Away reports whether the connection is known to be dead: then nothing is to be
// tried before WaitReached returns.
func (m *Monitor) Away() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.gone
}

// WaitReached waits while there is no connection. It returns the context's
// error if that ends first.
func (m *Monitor) WaitReached(ctx context.Context) error {
	for {
		m.mu.Lock()
		gone, back := m.gone, m.back
		m.mu.Unlock()
		if !gone {
			return ctx.Err()
		}
		select {
		case <-back:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// DefaultPause is short at first, since most outages are restarts, and never longer
// than half a second: work is to go on within a second of Redis' return.
var DefaultPause = backoff.Policy{Min: 50 * time.Millisecond, Max: 500 * time.Millisecond}

// Run pings when no operation has heard of Redis for the interval, and repeatedly
// while there is no connection, until soft ends. After its return, for whatever
// reason, no caller waits for a ping any more.
func (m *Monitor) Run(soft context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	soft, stop := context.WithCancel(soft)
	defer stop()
	defer m.close()
	failed := make(chan error, 1)
	if m.CheckIdle != nil {
		wg.Go(func() {
			if err := recoverpanic.Do(func() error { m.checkIdle(soft); return nil }); err != nil {
				failed <- err
				stop()
			}
		})
	}
	m.ping(soft)
	wg.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

func (m *Monitor) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unheard = true
	m.reachedLocked()
}

// checkIdle is apart from the pings: it may wait for a connection that is dead.
func (m *Monitor) checkIdle(soft context.Context) {
	ticker := time.NewTicker(m.IdleInterval)
	defer ticker.Stop()
	for {
		select {
		case <-soft.Done():
			return
		case <-ticker.C:
		}
		if m.Away() {
			continue // they are known to be dead
		}
		ctx, cancel := context.WithTimeout(soft, m.Timeout)
		m.CheckIdle(ctx)
		cancel()
	}
}

// silent is how long ago an operation last succeeded. While there is no
// connection nothing that did counts.
func (m *Monitor) silent() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone {
		return math.MaxInt64
	}
	return time.Since(m.heard)
}

func (m *Monitor) ping(soft context.Context) {
	policy := m.Pause
	if policy.Max == 0 {
		policy = DefaultPause
	}
	pause := backoff.New(policy)
	timer := time.NewTimer(m.Interval)
	defer timer.Stop()
	for {
		select {
		case <-soft.Done():
			return
		case <-timer.C:
			if silent := m.silent(); silent < m.Interval {
				timer.Reset(m.Interval - silent)
				continue
			}
		case <-m.probe:
			backoff.Sleep(soft, pause.Next())
		}
		ctx, cancel := context.WithTimeout(soft, m.Timeout)
		err := m.Ping(ctx)
		cancel()
		switch {
		case soft.Err() != nil:
			return
		case err == nil || m.Reached(err):
			pause.Reset()
			m.mu.Lock()
			m.reachedLocked()
			m.mu.Unlock()
			timer.Reset(m.Interval)
		default:
			m.Failed(err)
			timer.Reset(pause.Next())
		}
	}
}
