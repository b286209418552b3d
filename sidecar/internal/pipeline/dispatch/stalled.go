package dispatch

import (
	"sync"
	"time"
)

// Handover is a look at what the stage of the workers does with what is ready.
type Handover struct {
	// Taken counts the tasks that were taken since the start.
	Taken uint64
	// Startable says that a task is ready, and a slot free that may run it. A stage
	// that works takes it within moments, however long its tasks are.
	Startable bool
}

// Handover returns a snapshot. Of two of them with the same count, between which no
// slot was lost, the second one's task has waited all the time.
func (q *Queue) Handover() Handover {
	q.mu.Lock()
	defer q.mu.Unlock()
	h := Handover{Taken: q.taken}
	for _, l := range q.lanes {
		h.Startable = h.Startable || !q.halted && len(l.ready) > 0 && l.freeLocked() > 0 && l.permitsLocked() > 0
	}
	return h
}

// HandoverWatch tells a stage of workers that hangs from one that is busy. Its method may
// be called concurrently.
type HandoverWatch struct {
	mu    sync.Mutex
	taken uint64    // tasks, at since
	since time.Time // when a task that could start was first seen to wait; zero for none
}

// Overdue is how long a task that could start has waited, with no other taken
// meanwhile, if that is longer than it may. A slot whose task is long is not free, so
// that this tells a stage of workers that hangs from one that is busy.
func (w *HandoverWatch) Overdue(within time.Duration, h Handover) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	switch {
	case !h.Startable:
		w.since = time.Time{}
	case w.since.IsZero() || h.Taken != w.taken:
		w.since, w.taken = now, h.Taken
	default:
		if waited := now.Sub(w.since); waited > within {
			return waited
		}
	}
	return 0
}
