package claim

import (
	"sync"
	"time"
)

// Tracker knows what a [Loop] does, and since when. A loop that hangs says nothing, so
// a watchdog outside of it has to be able to ask. Its methods may be called concurrently.
type Tracker struct {
	mu        sync.Mutex
	begun     time.Time // what it does now; zero before its first step
	waits     wait
	excused   time.Time // when there was last a reason to stand still
	suspected time.Time // when a wait was first seen to have no reason; zero for none
	settled   time.Time // when Redis last took a report
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

func (p *Tracker) step(waits wait) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.begun, p.waits, p.suspected = time.Now(), waits, time.Time{}
}

// Reported notes that Redis has taken a report.
func (p *Tracker) Reported() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settled = time.Now()
}

// Overdue is how long the loop has stood still for no reason, if that is longer than
// it may: within is for calls of Redis and for slots. busy says that no task is
// wanted, which only excuses a loop that waits for slots; excused, that it need not
// do anything.
func (p *Tracker) Overdue(within time.Duration, excused, busy bool) time.Duration {
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
