package dispatch

import (
	"context"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Lane is the part of a Queue for one kind of worker: its ready tasks and its slots.
// task.Task.Kind is its index. Its methods may be called concurrently.
type Lane struct {
	q               *Queue
	slots           int         // see Limit; 0 means no limit
	maxExtra        int         // see Limit
	ready           []task.Task // claimed and not started, the oldest first
	expected        int         // claimed and not offered yet, see Expect
	acquirers       []*acquirer // waiting calls of Acquire, the oldest first
	capacity        int         // slots of the worker processes that take tasks
	running         int         // tasks that were acquired and not released
	outsideCapacity int         // of these, those whose slot is not in capacity
	waiting         int         // of these, those that only wait for other tasks
	rate            rate
}

// acquirer is a waiting call of Acquire. Its channel is buffered, so that a send never
// blocks.
type acquirer struct {
	max   int
	given chan []task.Task
}

// AddCapacity adds n slots when a worker process is up, or removes slots for a negative n
// when it ends. Without slots the tasks that were not started are requeued: another sidecar
// could run them while the workers of this one keep crashing.
func (l *Lane) AddCapacity(n int) {
	q := l.q
	q.mu.Lock()
	l.capacity += n
	var back []task.Task
	if l.capacity <= 0 && !q.halted {
		back = l.unstartedLocked()
	}
	q.signalDemandLocked()
	q.mu.Unlock()
	q.requeueAll(back)
}

// unstartedLocked removes and returns the tasks that were not started.
func (l *Lane) unstartedLocked() []task.Task {
	out := l.ready
	if t := l.q.isolation.pending; t != nil && l.ownsLocked(t) {
		out = append(out, *t)
		l.q.isolation.pending = nil
		l.q.blockedLocked()
	}
	l.ready = nil
	return out
}

// ownsLocked reports whether the task is of the lane's kind.
func (l *Lane) ownsLocked(t *task.Task) bool { return l.q.lanes[t.Kind] == l }

// demandLocked returns the number of tasks of the lane's kind that may be claimed now.
func (l *Lane) demandLocked() int {
	q := l.q
	if q.quiet || l.capacity <= 0 || q.blockedLocked() {
		return 0
	}
	ahead := l.rate.ahead(time.Now())
	short := l.freeLocked() - len(l.ready) - l.expected // free slots without a task
	if short <= 0 && ahead+short <= ahead/2 {
		return 0 // half of the tasks claimed ahead are left: fewer and larger claims
	}
	return max(short+ahead, 0)
}

// serveLocked gives ready tasks to the waiting acquirers.
func (l *Lane) serveLocked() {
	for len(l.acquirers) > 0 {
		ts := l.popLocked(l.acquirers[0].max)
		if len(ts) == 0 {
			ts = l.popPendingLocked()
		}
		if len(ts) == 0 {
			return
		}
		t := l.acquirers[0]
		l.acquirers = l.acquirers[1:]
		t.given <- ts
	}
}

// popLocked removes and returns up to limit ready tasks that may start now.
func (l *Lane) popLocked(limit int) []task.Task {
	n := min(limit, len(l.ready), l.permitsLocked())
	if n <= 0 {
		return nil
	}
	out := make([]task.Task, n)
	copy(out, l.ready)
	clear(l.ready[:n]) // the records can be freed
	l.ready = l.ready[n:]
	l.running += n
	l.q.taken += uint64(n)
	return out
}

// Acquire waits for at least one task and returns up to limit tasks. Each of them uses a
// slot until Release, ReleaseAll or Return. Acquire returns ErrClosed after Halt, and the
// context's error when the context ends.
func (l *Lane) Acquire(ctx context.Context, limit int) ([]task.Task, error) {
	q := l.q
	q.mu.Lock()
	if q.halted {
		q.mu.Unlock()
		return nil, ErrClosed
	}
	if len(l.acquirers) == 0 {
		if ts := l.popLocked(limit); len(ts) > 0 {
			q.mu.Unlock()
			return ts, nil
		}
	}
	t := &acquirer{max: limit, given: make(chan []task.Task, 1)}
	l.acquirers = append(l.acquirers, t)
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

// withdraw removes a waiting acquirer. Tasks that it received at the same moment are
// returned, since they have not started.
func (l *Lane) withdraw(ctx context.Context, t *acquirer) error {
	l.q.mu.Lock()
	for i, other := range l.acquirers {
		if other == t {
			l.acquirers = append(l.acquirers[:i:i], l.acquirers[i+1:]...)
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
		l.Return(late)
	}
	return ctx.Err()
}

// Return returns acquired tasks that were not started to the head of the lane.
func (l *Lane) Return(ts []task.Task) {
	q := l.q
	q.mu.Lock()
	var back []task.Task
	returned := make([]task.Task, 0, len(ts)+len(l.ready))
	for _, t := range ts {
		l.running--
		l.countLocked(t.SlotState(), -1)
		switch {
		case q.closed:
			back = append(back, t)
		case t.Isolation != task.IsolateRun || q.halted:
			returned = append(returned, t)
		case q.isolation.pending == nil:
			q.isolateLocked(t)
		default:
			back = append(back, t)
		}
	}
	l.ready = append(returned, l.ready...)
	q.serveLocked()
	q.signalDemandLocked()
	q.mu.Unlock()
	q.requeueAll(back)
}

// Halted reports whether Halt was called.
func (l *Lane) Halted() bool {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	return l.q.halted
}
