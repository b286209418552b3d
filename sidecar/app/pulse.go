package app

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/claim"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/web"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// pulse is what the claim loop is doing and since when. A loop that hangs says
// nothing, so something else has to be able to ask.
type pulse struct {
	mu        sync.Mutex
	begun     time.Time // what it does now; zero before its first step
	waits     wait
	excused   time.Time // when there was last a reason to stand still
	suspected time.Time // when a wait was first seen to have no reason; zero for none
	settled   time.Time // when Redis last took a report
	taken     uint64    // tasks, when untaken began
	untaken   time.Time // when a task that could start was first seen to wait; zero for none
}

// wait is what the claim loop waits for, besides an answer of Redis.
type wait int

const (
	waitsForNothing wait = iota
	waitsForSlots        // as long as tasks take
	waitsForReports      // as long as Redis takes for those of tasks that have ended
)

// reportsWithin is how long the claim loop may wait for a report to be taken by a
// Redis that answers: the largest over a slow link takes minutes.
const reportsWithin = 10 * time.Minute

func (p *pulse) step(waits wait) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun, p.waits, p.suspected = time.Now(), waits, time.Time{}
}

// reported notes that Redis has taken a report.
func (p *pulse) reported() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settled = time.Now()
}

// overdue is how long the loop has stood still for no reason, if that is longer than
// it may: within is for calls of Redis and for slots. busy says that no task is
// wanted, which only excuses a loop that waits for slots; excused, that it need not
// do anything.
func (p *pulse) overdue(within time.Duration, excused, busy bool) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.begun.IsZero() || excused || p.waits == waitsForSlots && busy {
		p.excused, p.suspected = now, time.Time{}
		return 0
	}
	from := p.begun
	switch p.waits {
	case waitsForSlots:
		// A slot may have become free in this moment, after an hour.
		if p.suspected.IsZero() {
			p.suspected = now
		}
		from = p.suspected
	case waitsForReports:
		within = reportsWithin
		if p.settled.After(from) {
			from = p.settled
		}
	}
	if p.excused.After(from) {
		from = p.excused
	}
	if still := now.Sub(from); still > within {
		return still
	}
	return 0
}

// notTaken is how long a task that could start has waited, with no other taken
// meanwhile, if that is longer than it may. A slot whose task is long is not free, so
// that this tells a stage of workers that hangs from one that is busy.
func (p *pulse) notTaken(within time.Duration, h dispatch.Handover) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	switch {
	case !h.Startable:
		p.untaken = time.Time{}
	case p.untaken.IsZero() || h.Taken != p.taken:
		p.untaken, p.taken = now, h.Taken
	default:
		if waited := now.Sub(p.untaken); waited > within {
			return waited
		}
	}
	return 0
}

// felt is a claim loop's source whose every step counts.
type felt struct {
	claim.Source
	pulse *pulse
}

func (f felt) Claim(ctx context.Context, nonce string, limit int) ([]task.Task, error) {
	f.pulse.step(waitsForNothing)
	return f.Source.Claim(ctx, nonce, limit)
}

func (f felt) Wait(ctx context.Context) (bool, error) {
	f.pulse.step(waitsForNothing)
	return f.Source.Wait(ctx)
}

func (f felt) Recover(ctx context.Context, err error) error {
	f.pulse.step(waitsForNothing)
	return f.Source.Recover(ctx, err)
}

// stillFor is how long a claim loop that is well may stand still: the longest
// that one call to Redis takes, where go-redis adds ten seconds to the wait for
// a blocked one.
func stillFor(r config.Redis) time.Duration {
	return r.DialTimeout + r.ReadTimeout + r.WriteTimeout + 15*time.Second
}

// takeWithin is how long a task that could start may wait for a worker to take it.
// Meanwhile a worker that ignores a cancelled task may be ended, which keeps its other
// slots from taking any.
func takeWithin(c *config.Config) time.Duration {
	grace := c.Worker.KillGrace
	for _, k := range c.Kinds {
		grace = max(grace, k.Worker.KillGrace)
	}
	return stillFor(c.Redis) + 2*grace
}

// Stuck says in words that the loop that claims tasks, or the stage that runs them, no
// longer moves though it should; "" while they do. A Redis that is away, slots that are
// taken, a pause and a stop are no such reasons. It is a question for a watchdog, to be asked
// every few seconds; where a lock is what is stuck, it does not return.
func (a *App) Stuck() string {
	if a.cfg.Mode == config.ModeSupervise {
		return "" // the workers take their tasks themselves
	}
	excused := a.mon.Lost() || a.queue.IsQuiet() || a.queue.Halted()
	if still := a.pulse.overdue(stillFor(a.cfg.Redis), excused, !a.wantsTasks()); still > 0 {
		return fmt.Sprintf("the claim loop has not moved for %v", still.Round(time.Second))
	}
	if waited := a.pulse.notTaken(takeWithin(&a.cfg), a.queue.Handover()); waited > 0 {
		return fmt.Sprintf("a slot is free, and no worker has taken the next task for %v", waited.Round(time.Second))
	}
	return ""
}

// wantsTasks reports whether a slot is free for a task, and may have one.
func (a *App) wantsTasks() bool {
	for _, n := range a.queue.Wants() {
		if n > 0 {
			return true
		}
	}
	return false
}

const (
	// lookPatience is how long a probe waits for the state, and lookLimit how long
	// reading it may take at all: its locks are held for microseconds.
	lookPatience = time.Second
	lookLimit    = 10 * time.Second
)

// look reads the state for probes on a goroutine of its own, one at a time, so that
// a lock that is never released fails the probe instead of holding it up.
type look struct {
	mu      sync.Mutex
	pending *glance
}

type glance struct {
	began  time.Time
	done   chan struct{}
	health web.Health // after done
}

// health is what read says, or what it means that it does not return.
func (l *look) health(read func() web.Health) web.Health {
	l.mu.Lock()
	g := l.pending
	if g == nil {
		g = &glance{began: time.Now(), done: make(chan struct{})}
		l.pending = g
		go func() {
			if err := recoverpanic.Do(func() error { g.health = read(); return nil }); err != nil {
				g.health = web.Health{Alive: true, Reasons: []string{err.Error()}}
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
	return web.Health{
		Alive:   since < lookLimit,
		Reasons: []string{fmt.Sprintf("the state cannot be read since %v: a lock is held", since.Round(time.Second))},
	}
}
