package dispatch

import (
	"context"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Lane is what a Queue has for each kind of worker: the tasks for that kind
// (task.Task.Route is its place), and what its children say. Its methods may be
// called concurrently.
type Lane struct {
	q        *Queue
	slots    int         // see Limit; 0 means no bound
	maxLent  int         // see Limit
	ready    []task.Task // claimed, not started; the oldest first
	expected int         // claimed, and not put yet, see Expect
	takers   []*taker    // children that wait for a task; the longest waiting first
	capacity int         // slots of all children that take tasks
	running  int         // tasks that were taken and have not ended
	outside  int         // of these, those whose slot is not in capacity
	waiting  int         // of these, those that only wait for other tasks
	rate     rate
}

// taker is a Take that waits. Its channel is buffered so that giving never blocks.
type taker struct {
	max   int
	given chan []task.Task
}

// AddCapacity tells that n more slots exist (a child is up), or fewer, if n is
// negative (it is going). When none is left, what was not started is given
// back: a worker that keeps crashing must not sit on tasks that another sidecar
// could run.
func (l *Lane) AddCapacity(n int) {
	q := l.q
	q.mu.Lock()
	l.capacity += n
	var back []task.Task
	if l.capacity <= 0 && !q.halted {
		back = l.unstartedLocked()
	}
	q.announceLocked()
	q.mu.Unlock()
	q.giveAllBack(back)
}

// unstartedLocked takes out everything that was not started.
func (l *Lane) unstartedLocked() []task.Task {
	out := l.ready
	if t := l.q.isolation.pending; t != nil && l.hasLocked(t) {
		out = append(out, *t)
		l.q.isolation.pending = nil
		l.q.heldLocked()
	}
	l.ready = nil
	return out
}

func (l *Lane) hasLocked(t *task.Task) bool { return l.q.lanes[t.Route] == l }

func (l *Lane) wantLocked() int {
	q := l.q
	if q.quiet || l.capacity <= 0 || q.heldLocked() {
		return 0
	}
	ahead := l.rate.ahead(time.Now())
	short := l.freeLocked() - len(l.ready) - l.expected // of what can start now
	if short <= 0 && ahead+short <= ahead/2 {
		return 0 // half of what is claimed ahead is left: fewer claims, of more records
	}
	return max(short+ahead, 0)
}

// serveLocked hands ready tasks to waiting takers.
func (l *Lane) serveLocked() {
	for len(l.takers) > 0 {
		ts := l.popLocked(l.takers[0].max)
		if len(ts) == 0 {
			ts = l.popPendingLocked()
		}
		if len(ts) == 0 {
			return
		}
		t := l.takers[0]
		l.takers = l.takers[1:]
		t.given <- ts
	}
}

// popLocked takes what may start now out of ready; nothing if nothing may.
func (l *Lane) popLocked(limit int) []task.Task {
	n := min(limit, len(l.ready), l.permitsLocked())
	if n <= 0 {
		return nil
	}
	out := make([]task.Task, n)
	copy(out, l.ready)
	clear(l.ready[:n]) // let go of the records
	l.ready = l.ready[n:]
	l.running += n
	l.q.taken += uint64(n)
	return out
}

// Take waits for at least one task and returns up to limit of them; each of
// them holds a slot until End or EndAll. It fails with ErrClosed after Close and
// with the context's error when that ends.
func (l *Lane) Take(ctx context.Context, limit int) ([]task.Task, error) {
	q := l.q
	q.mu.Lock()
	if q.halted {
		q.mu.Unlock()
		return nil, ErrClosed
	}
	if len(l.takers) == 0 {
		if ts := l.popLocked(limit); len(ts) > 0 {
			q.mu.Unlock()
			return ts, nil
		}
	}
	t := &taker{max: limit, given: make(chan []task.Task, 1)}
	l.takers = append(l.takers, t)
	l.serveLocked()
	q.mu.Unlock()

	select {
	case ts, ok := <-t.given:
		if !ok {
			return nil, ErrClosed
		}
		return ts, nil
	case <-ctx.Done():
		return nil, l.withdraw(ctx, t)
	}
}

// withdraw takes a waiting taker out again. Tasks it was given in the same
// moment go to the next one: they have not started.
func (l *Lane) withdraw(ctx context.Context, t *taker) error {
	l.q.mu.Lock()
	for i, other := range l.takers {
		if other == t {
			l.takers = append(l.takers[:i:i], l.takers[i+1:]...)
			break
		}
	}
	var late []task.Task
	select {
	case late = <-t.given:
	default:
	}
	l.q.mu.Unlock()
	if len(late) > 0 {
		l.Undo(late)
	}
	return ctx.Err()
}

// Undo puts back tasks that were taken and not started, at the head.
func (l *Lane) Undo(ts []task.Task) {
	q := l.q
	q.mu.Lock()
	var back []task.Task
	undone := make([]task.Task, 0, len(ts)+len(l.ready))
	for _, t := range ts {
		l.running--
		l.countLocked(t.Place(), -1)
		switch {
		case q.closed:
			back = append(back, t)
		case t.Lone != task.AloneInRun || q.halted:
			undone = append(undone, t)
		case q.isolation.pending == nil:
			q.isolateLocked(t)
		default:
			back = append(back, t)
		}
	}
	l.ready = append(undone, l.ready...)
	q.serveLocked()
	q.announceLocked()
	q.mu.Unlock()
	q.giveAllBack(back)
}

// Halted reports whether Halt was called.
func (l *Lane) Halted() bool {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	return l.q.halted
}
