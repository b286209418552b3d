// Package health knows whether Redis is there. Every operation tells it how it
// went; it logs a loss once and a return once, and lets loops wait in between
// without each of them trying for itself.
package health

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
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
	Interval time.Duration // between pings while all is well
	Timeout  time.Duration // of one ping
	Log      *slog.Logger

	mu       sync.Mutex
	stopping bool
	lost     time.Time // when operations began to fail; zero while they succeed
	reminded time.Time
	gone     bool          // no connection: nothing is tried before a ping gets through
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
	if m.lost.IsZero() {
		return
	}
	m.Log.Info("redis is back", "after", time.Since(m.lost).Round(time.Millisecond).String())
	m.lost = time.Time{}
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
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if !m.Reached(err) && !m.gone {
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

// probePause is short at first, since most outages are restarts, and never longer
// than half a second: work is to go on within a second of Redis' return.
var probePause = backoff.Policy{Min: 50 * time.Millisecond, Max: 500 * time.Millisecond}

// Run pings at the interval, and again and again while there is no connection,
// until soft ends.
func (m *Monitor) Run(soft, _ context.Context) error {
	pause := backoff.New(probePause)
	timer := time.NewTimer(m.Interval)
	defer timer.Stop()
	for {
		select {
		case <-soft.Done():
			return nil
		case <-timer.C:
		case <-m.probe:
			backoff.Sleep(soft, pause.Next())
		}
		ctx, cancel := context.WithTimeout(soft, m.Timeout)
		err := m.Ping(ctx)
		cancel()
		switch {
		case soft.Err() != nil:
			return nil
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
