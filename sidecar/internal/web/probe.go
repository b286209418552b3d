package web

import (
	"fmt"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/observe"
	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

const (
	// lookPatience is how long a probe waits for the state, and lookLimit how long
	// reading it may take at all: its locks are held for microseconds.
	lookPatience = time.Second
	lookLimit    = 10 * time.Second
)

// prober reads the state for probes on a goroutine of its own, one at a time, so that
// a lock that is never released fails the probe instead of holding it up.
type prober struct {
	mu      sync.Mutex
	pending *glance
}

type glance struct {
	began  time.Time
	done   chan struct{}
	health observe.Health // after done
}

// health is what read says, or what it means that it does not return.
func (l *prober) health(read func() observe.Health) observe.Health {
	l.mu.Lock()
	g := l.pending
	if g == nil {
		g = &glance{began: time.Now(), done: make(chan struct{})}
		l.pending = g
		go func() {
			if err := recoverpanic.Do(func() error { g.health = read(); return nil }); err != nil {
				g.health = observe.Health{Alive: true, Reasons: []string{err.Error()}}
			}
			l.mu.Lock()
			l.pending = nil
			l.mu.Unlock()
			close(g.done)
		}()
	}
	l.mu.Unlock()
	if local.Within(g.done, lookPatience) {
		return g.health
	}
	since := time.Since(g.began)
	return observe.Health{
		Alive:   since < lookLimit,
		Reasons: []string{fmt.Sprintf("the state cannot be read since %v: a lock is held", since.Round(time.Second))},
	}
}
