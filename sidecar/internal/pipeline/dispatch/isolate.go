package dispatch

import (
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

const (
	// quietFor is how long a task that must be alone in the sidecar keeps the other
	// slots from claiming before it starts. It waited for the longest running task
	// once, and that of one record stopped the claims of all slots for hours.
	quietFor = time.Second
	// maxHold is how long claims are held for such tasks in a row, the wait and the
	// run of each. As much time without a hold comes after it: a sidecar that died
	// with many tasks leaves as many records that must be alone, and the queue behind
	// them is to move meanwhile.
	maxHold = 10 * time.Second
)

// isolation is what a Queue knows of the tasks that must be alone in the sidecar
// (task.AloneInRun). Claims are held while one of them waits for the others to end,
// and while one runs and nothing else does. As soon as another task is in flight,
// even one that only waits for a nested group, a death of the sidecar is shared,
// whatever is held; the reaper does not count such a death as the last attempt, so
// a hold would gain nothing. All of it is guarded by the queue's mutex.
type isolation struct {
	pending *task.Task // claimed and not started
	until   time.Time  // when pending is set aside
	working int        // of these tasks, those that run and do not only wait for others

	holding bool          // claims were held at the last look
	credit  time.Duration // for how long they may be, as of then; from -maxHold to maxHold
	looked  time.Time
}

// isolateLocked makes a task the pending one.
func (q *Queue) isolateLocked(t task.Task) {
	q.isolation.pending, q.isolation.until = &t, time.Now().Add(quietFor)
	q.heldLocked() // from now on
}

// heldLocked reports whether claims are held, and notes it: it is to be called after
// each change of what it looks at, or the time before the next call would be counted
// as of the state before.
func (q *Queue) heldLocked() bool {
	i := &q.isolation
	if i.pending == nil && i.working == 0 && !i.holding {
		return false // nearly always
	}
	credit := q.creditLocked()
	i.holding = i.pending != nil || i.working == 1 && credit > 0 && q.runningLocked() == 1
	return i.holding
}

// creditLocked is for how long claims may be held from now on. Time with a hold
// uses it up, and time without one brings it back.
func (q *Queue) creditLocked() time.Duration {
	i, now := &q.isolation, time.Now()
	passed := now.Sub(i.looked)
	if i.holding {
		passed = -passed
	}
	i.credit, i.looked = min(max(i.credit+passed, -maxHold), maxHold), now
	return i.credit
}

// holdEndsLocked is when a hold ends by itself, from now on; 0 without a hold.
func (q *Queue) holdEndsLocked() time.Duration {
	switch i := &q.isolation; {
	case !q.heldLocked():
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
	if t == nil || !l.hasLocked(t) || !q.idleLocked() || l.permitsLocked() <= 0 {
		return nil
	}
	q.isolation.pending = nil
	l.running++
	q.taken++
	l.countLocked(t.Place(), 1)
	q.heldLocked() // from now on by another rule
	return []task.Task{*t}
}

// takeOverdueLocked takes out the pending task when its time is over. There is no
// credit for another wait until maxHold has passed: what runs here is not short.
func (q *Queue) takeOverdueLocked() []task.Task {
	i := &q.isolation
	if i.pending == nil || q.halted || time.Now().Before(i.until) {
		return nil
	}
	t := *i.pending
	i.pending = nil
	q.heldLocked()
	i.credit = min(i.credit, quietFor-maxHold)
	return []task.Task{t}
}

// CanIsolate reports whether a task that must be alone in the sidecar could start
// at once and be alone.
func (q *Queue) CanIsolate() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return !q.halted && q.runningLocked() == 0 && q.idleLocked() && q.wantLocked() > 0 && q.creditLocked() >= quietFor
}

func (q *Queue) setAside(ts []task.Task) {
	for _, t := range ts {
		q.exits.SetAside(t)
	}
}

// runningLocked is how many tasks of all kinds were taken and have not ended.
func (q *Queue) runningLocked() (n int) {
	for _, l := range q.lanes {
		n += l.running
	}
	return n
}
