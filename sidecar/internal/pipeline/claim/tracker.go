package claim

import (
	"sync"
	"time"
)

// Tracker records the current step of a [Loop] for a watchdog outside of it. Its methods may be
// called concurrently.
type Tracker struct {
	mu          sync.Mutex
	stepStarted time.Time // zero before the first step
	waitingFor  wait
	excused     time.Time // when the loop last had a reason to stand still
	suspected   time.Time // when a wait was first seen without a reason; zero for none
	reported    time.Time // when Redis last accepted a report
}

// wait is what the claim loop waits for, apart from a reply of Redis.
type wait int

const (
	waitsForNothing wait = iota
	waitsForSlots        // lasts as long as tasks run
	waitsForReports      // lasts until Redis has accepted the reports of ended tasks
)

// maxReportWait is the time that the claim loop may wait until a reachable Redis accepts a
// report: the largest one over a slow link takes minutes.
const maxReportWait = 10 * time.Minute

// step records the beginning of a step of the loop.
func (p *Tracker) step(waits wait) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stepStarted, p.waitingFor, p.suspected = time.Now(), waits, time.Time{}
}

// Reported records that Redis has accepted a report.
func (p *Tracker) Reported() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.reported = time.Now()
}

// Overdue returns how long the loop has stood still without a reason, if that exceeds the
// limit, else 0. within is the limit for calls of Redis and for slots. busy reports that there
// is no demand, which excuses a loop that waits for slots; excused excuses any state.
func (p *Tracker) Overdue(within time.Duration, excused, busy bool) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.stepStarted.IsZero() || excused || p.waitingFor == waitsForSlots && busy {
		p.excused, p.suspected = now, time.Time{}
		return 0
	}
	from := p.stepStarted
	switch p.waitingFor {
	case waitsForSlots:
		// A slot may have become free at this moment, after an hour.
		if p.suspected.IsZero() {
			p.suspected = now
		}
		from = p.suspected
	case waitsForReports:
		within = maxReportWait
		if p.reported.After(from) {
			from = p.reported
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
