package dispatch

import (
	"slices"
	"sync"
	"time"
)

// Handover is a snapshot of the handover of tasks to the worker stage.
type Handover struct {
	// Taken is the number of tasks that were acquired since the start.
	Taken uint64
	// Startable reports that a task is ready and a slot is free for it. A working stage
	// acquires it within moments, however long its tasks run.
	Startable bool
}

// IsFull reports whether no lane has a slot for another task.
func (q *Queue) IsFull() bool {
	return !slices.ContainsFunc(q.Demands(), func(n int) bool { return n > 0 })
}

// WatchHandover returns the Overdue of a [HandoverWatch] over the queue.
func (q *Queue) WatchHandover() (overdue func(within time.Duration) time.Duration) {
	var w HandoverWatch
	return func(within time.Duration) time.Duration { return w.Overdue(within, q.Handover()) }
}

// HandoverWatch distinguishes a worker stage that hangs from one that is busy. Its method may
// be called concurrently.
type HandoverWatch struct {
	mu    sync.Mutex
	taken uint64    // Handover.Taken at since
	since time.Time // when a startable task was first seen; zero for none
}

// Overdue returns how long a startable task has waited while no task was acquired, if that
// is longer than within, else 0. A slot with a long task is not free, so a busy stage is
// never overdue.
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
