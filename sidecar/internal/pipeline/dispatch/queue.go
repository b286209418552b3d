// Package dispatch stands between claiming and running: it knows how many
// tasks can start, holds the few that were claimed and have not, and hands
// them to children in the order of their claim.
package dispatch

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// ErrClosed is returned by Want and Take once the queue has been halted or
// closed: nothing more is claimed or started.
var ErrClosed = errors.New("dispatch: closed")

// Queue is the state of dispatching, changed by its methods only. All of them
// may be called concurrently.
//
// Children announce capacity (AddCapacity), take tasks (Take), say when one
// holds its slot in another way (Move) and give slots back (End, Done). The
// claim loop asks how many records it may claim (Want) and
// puts them in (Put). What was claimed and never started leaves through the
// giveBack function when the queue is closed.
type Queue struct {
	giveBack func(task.Task)

	mu       sync.Mutex
	slots    int         // see Limit; 0 means no bound
	maxLent  int         // see Limit
	halted   bool        // see Halt
	closed   bool        // see Close
	quiet    bool        // see Quiet
	lastLook bool        // one more claim, although nothing is wanted
	looking  bool        // that claim is under way
	ready    []task.Task // claimed, not started; the oldest first
	lone     *task.Task  // waits until nothing else is at work, see Put
	alone    int         // lone tasks that run and do not wait
	takers   []*taker    // children that wait for a task; the longest waiting first
	capacity int         // slots of all children that take tasks
	running  int         // tasks that were taken and have not ended
	outside  int         // of these, those whose slot is not in capacity
	waiting  int         // of these, those that only wait for other tasks
	rate     rate
	room     chan struct{} // one token: there may be room to claim
}

// taker is a Take that waits. Its channel is buffered so that giving never blocks.
type taker struct {
	max   int
	given chan []task.Task
}

// New returns an empty queue. giveBack is called, with no lock held, for every
// task that was put in and will never be taken.
func New(giveBack func(task.Task)) *Queue {
	return &Queue{giveBack: giveBack, room: make(chan struct{}, 1)}
}

// AddCapacity tells that n more slots exist (a child is up), or fewer, if n is
// negative (it is going). When none is left, what was not started is given
// back: a worker that keeps crashing must not sit on tasks that another sidecar
// could run.
func (q *Queue) AddCapacity(n int) {
	q.mu.Lock()
	q.capacity += n
	var back []task.Task
	if q.capacity <= 0 && !q.halted {
		back = q.unstartedLocked()
	}
	q.announceLocked()
	q.mu.Unlock()
	q.giveAllBack(back)
}

// unstartedLocked takes out everything that was not started.
func (q *Queue) unstartedLocked() []task.Task {
	out := q.ready
	if q.lone != nil {
		out = append(out, *q.lone)
	}
	q.ready, q.lone = nil, nil
	return out
}

// giveAllBack gives tasks back, the latest claimed first: each goes to the head
// of the queue, and the old order is to come out of it.
func (q *Queue) giveAllBack(ts []task.Task) {
	slices.SortStableFunc(ts, func(a, b task.Task) int { return cmp.Compare(b.Seq, a.Seq) })
	for _, t := range ts {
		q.giveBack(t)
	}
}

// Want waits until at least one record may be claimed and returns how many.
// That is the number of free slots, plus what the children are so sure to take
// within aheadFor that claiming it early costs no one else's time.
func (q *Queue) Want(ctx context.Context) (int, error) {
	for {
		q.mu.Lock()
		n, halted := q.wantLocked(), q.halted
		if q.looking = n <= 0 && q.lastLook; q.looking {
			n = 1
		}
		q.lastLook = false
		q.mu.Unlock()
		switch {
		case halted:
			return 0, ErrClosed
		case n > 0:
			return n, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-q.room:
		}
	}
}

func (q *Queue) wantLocked() int {
	if q.quiet || q.capacity <= 0 || q.lone != nil || q.alone > 0 {
		return 0
	}
	return q.freeLocked() - len(q.ready) + q.rate.ahead(time.Now())
}

// announceLocked wakes a Want. One token is enough: there is one claim loop,
// and it looks again after each.
func (q *Queue) announceLocked() {
	if q.halted || q.lastLook || q.wantLocked() > 0 {
		select {
		case q.room <- struct{}{}:
		default:
		}
	}
}

// Put adds claimed tasks, in the order of their claim. After Halt they are
// given back with all others, after Close at once.
//
// A task that must be alone in the sidecar (task.AloneInRun) waits until
// everything that was put before it has ended, and nothing more is wanted until
// it has ended too; what came with it is given back. Its death can then be
// nobody else's. The rule rests for as long as a task only waits: what it waits
// for could else never run where this is the only sidecar. (A death that it
// shares meanwhile is not its last.) While Quiet holds, or no child is up, all
// are given back.
func (q *Queue) Put(ts []task.Task) {
	q.mu.Lock()
	var back []task.Task
	unwanted := q.looking && q.freeLocked() <= 0
	for _, t := range ts {
		switch {
		case q.closed, !q.halted && (unwanted || q.quiet || q.lone != nil || q.alone > 0 || q.capacity <= 0):
			back = append(back, t)
		case q.halted:
			q.ready = append(q.ready, t)
		case t.Lone == task.AloneInRun:
			q.lone = &t
		default:
			q.ready = append(q.ready, t)
		}
	}
	q.serveLocked()
	q.mu.Unlock()
	q.giveAllBack(back)
}

// serveLocked hands ready tasks to waiting takers.
func (q *Queue) serveLocked() {
	for len(q.takers) > 0 {
		ts := q.popLocked(q.takers[0].max)
		if len(ts) == 0 && q.lone != nil && q.running == q.waiting && len(q.ready) == 0 && q.permitsLocked() > 0 {
			ts = []task.Task{*q.lone}
			q.lone = nil
			q.alone++
			q.running++
		}
		if len(ts) == 0 {
			return
		}
		t := q.takers[0]
		q.takers = q.takers[1:]
		t.given <- ts
	}
}

// popLocked takes what may start now out of ready; nothing if nothing may.
func (q *Queue) popLocked(limit int) []task.Task {
	n := min(limit, len(q.ready), q.permitsLocked())
	if n <= 0 || q.alone > 0 {
		return nil
	}
	out := make([]task.Task, n)
	copy(out, q.ready)
	clear(q.ready[:n]) // let go of the records
	q.ready = q.ready[n:]
	q.running += n
	return out
}

// Take waits for at least one task and returns up to limit of them; each of
// them holds a slot until End or Done. It fails with ErrClosed after Close and with
// the context's error when that ends.
func (q *Queue) Take(ctx context.Context, limit int) ([]task.Task, error) {
	q.mu.Lock()
	if q.halted {
		q.mu.Unlock()
		return nil, ErrClosed
	}
	if len(q.takers) == 0 {
		if ts := q.popLocked(limit); len(ts) > 0 {
			q.mu.Unlock()
			return ts, nil
		}
	}
	t := &taker{max: limit, given: make(chan []task.Task, 1)}
	q.takers = append(q.takers, t)
	q.serveLocked()
	q.mu.Unlock()

	select {
	case ts, ok := <-t.given:
		if !ok {
			return nil, ErrClosed
		}
		return ts, nil
	case <-ctx.Done():
		return nil, q.withdraw(ctx, t)
	}
}

// withdraw takes a waiting taker out again. Tasks it was given in the same
// moment go to the next one: they have not started.
func (q *Queue) withdraw(ctx context.Context, t *taker) error {
	q.mu.Lock()
	for i, other := range q.takers {
		if other == t {
			q.takers = append(q.takers[:i:i], q.takers[i+1:]...)
			break
		}
	}
	var late []task.Task
	select {
	case late = <-t.given:
	default:
	}
	q.mu.Unlock()
	if len(late) > 0 {
		q.Undo(late)
	}
	return ctx.Err()
}

// Undo puts back tasks that were taken and not started, at the head.
func (q *Queue) Undo(ts []task.Task) {
	q.mu.Lock()
	q.running -= len(ts)
	if q.closed {
		q.mu.Unlock()
		for _, t := range ts {
			q.giveBack(t)
		}
		return
	}
	if len(ts) == 1 && ts[0].Lone == task.AloneInRun && q.alone > 0 && !q.halted {
		q.lone = &ts[0]
		q.alone--
		q.serveLocked()
		q.mu.Unlock()
		return
	}
	q.ready = append(append(make([]task.Task, 0, len(ts)+len(q.ready)), ts...), q.ready...)
	q.serveLocked()
	q.mu.Unlock()
}

// Drop forgets every task that was not started, without giving it back: their
// run has lost its lease, and somebody else has them already.
func (q *Queue) Drop() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.unstartedLocked())
	q.announceLocked()
	return n
}
