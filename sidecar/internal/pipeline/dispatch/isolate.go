package dispatch

import (
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

const (
	// isolationWait is the time for which a task that must run alone in the sidecar blocks
	// claims before it starts. Without this bound, one record that waited for the longest
	// running task once stopped the claims of all slots for hours.
	isolationWait = time.Second
	// maxBlock is the time for which such tasks in a row may block claims, waiting and
	// running. As much time without blocking follows: a sidecar that died with many tasks
	// leaves many records that must run alone, and the queue behind them must not stop.
	maxBlock = 10 * time.Second
)

// isolation is the state of a Queue for the tasks that must run alone in the sidecar
// (task.IsolateRun). Claims are blocked while such a task waits for the others to end, and
// while it runs alone. As soon as another task is in flight, even one that only waits for a
// nested group, a death of the sidecar is a shared loss. The reaper does not count that as
// the last attempt, so blocking claims gains nothing. The queue's mutex guards all fields.
type isolation struct {
	pending *task.Task // claimed and not started
	until   time.Time  // when pending is deferred
	working int        // such tasks that run and do not only wait for other tasks

	blocked  bool          // claims were blocked at creditAt
	credit   time.Duration // for which claims may be blocked, from -maxBlock to maxBlock
	creditAt time.Time
}

// isolateLocked makes a task the pending one.
func (q *Queue) isolateLocked(t task.Task) {
	q.isolation.pending, q.isolation.until = &t, time.Now().Add(isolationWait)
	q.blockedLocked() // from now on
}

// blockedLocked reports whether claims are blocked, and records it. It must be called after
// each change of its inputs: the time until the next call would otherwise be accounted to the
// state before.
func (q *Queue) blockedLocked() bool {
	i := &q.isolation
	if i.pending == nil && i.working == 0 && !i.blocked {
		return false // the common case
	}
	credit := q.creditLocked()
	i.blocked = i.pending != nil || i.working == 1 && credit > 0 && q.runningLocked() == 1
	return i.blocked
}

// creditLocked returns the time for which claims may be blocked from now on. Blocked time
// uses the credit up, other time restores it.
func (q *Queue) creditLocked() time.Duration {
	i, now := &q.isolation, time.Now()
	passed := now.Sub(i.creditAt)
	if i.blocked {
		passed = -passed
	}
	i.credit, i.creditAt = min(max(i.credit+passed, -maxBlock), maxBlock), now
	return i.credit
}

// blockEndsLocked returns the time until claims are no longer blocked; 0 if they are not.
func (q *Queue) blockEndsLocked() time.Duration {
	switch i := &q.isolation; {
	case !q.blockedLocked():
		return 0
	case i.pending != nil:
		return max(time.Until(i.until), 1)
	default:
		return max(i.credit, 1)
	}
}

// popPendingLocked starts the pending task if it is the lane's and may start.
func (l *Lane) popPendingLocked() []task.Task {
	q := l.q
	t := q.isolation.pending
	if t == nil || !l.ownsLocked(t) || !q.idleLocked() || l.permitsLocked() <= 0 {
		return nil
	}
	q.isolation.pending = nil
	l.running++
	q.taken++
	l.countLocked(t.SlotState(), 1)
	q.blockedLocked() // a running task blocks by another rule
	return []task.Task{*t}
}

// expirePendingLocked removes and returns the pending task after its time. It leaves no
// credit for another wait until maxBlock has passed: the running tasks are not short.
func (q *Queue) expirePendingLocked() []task.Task {
	i := &q.isolation
	if i.pending == nil || q.halted || time.Now().Before(i.until) {
		return nil
	}
	t := *i.pending
	i.pending = nil
	q.blockedLocked()
	i.credit = min(i.credit, isolationWait-maxBlock)
	return []task.Task{t}
}

// CanIsolate reports whether a task that must run alone in the sidecar could start at once.
func (q *Queue) CanIsolate() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.halted && q.runningLocked() == 0 && q.idleLocked() && q.demandLocked() > 0 && q.creditLocked() >= isolationWait
}

// deferAll defers tasks for an idle sidecar.
func (q *Queue) deferAll(ts []task.Task) {
	for _, t := range ts {
		q.exits.Defer(t)
	}
}

// runningLocked returns the number of tasks of all kinds that were acquired and not released.
func (q *Queue) runningLocked() (n int) {
	for _, l := range q.lanes {
		n += l.running
	}
	return n
}
