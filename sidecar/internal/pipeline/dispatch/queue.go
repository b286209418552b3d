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

// Queue is the state of dispatching, changed by its methods and those of its
// lanes only. All of them may be called concurrently.
//
// Children announce capacity (AddCapacity), take tasks (Take), say when one
// holds its slot in another way (Move) and give slots back (End, EndAll). The
// claim loop asks how many records it may claim (Want) and
// puts them in (Put). What was claimed and never started leaves through Exits.
//
// Each kind of worker has a lane for this. A task that must be alone in the
// sidecar is alone over all of them.
type Queue struct {
	*Lane // the first; the only one where there is one kind of worker

	exits Exits
	looks bool // see NewKinds

	mu        sync.Mutex
	lanes     []*Lane
	halted    bool // see Halt
	closed    bool // see Close
	quiet     bool // see Quiet
	lastLook  bool // one more claim, although nothing is wanted
	looking   bool // that claim is under way
	isolation isolation
	room      chan struct{} // one token: there may be room to claim
	taken     uint64        // see Handover
}

// Exits are what a queue calls, with no lock held, for every task that was put in
// and will never be taken: exactly one of them, once.
type Exits struct {
	// GiveBack hands a task to the head of the queue.
	GiveBack func(task.Task)
	// SetAside hands a task that must be alone in the sidecar, and could not be, to
	// a sidecar that is idle. From the head of the queue this one would claim it
	// again at once.
	SetAside func(task.Task)
}

// New returns an empty queue for one kind of worker.
func New(e Exits) *Queue { return newQueue(1, e) }

// NewKinds returns an empty queue for n kinds of worker. Its Want returns once a
// second also where nothing is wanted: a claim by kinds has something to see to
// then, too.
func NewKinds(n int, e Exits) *Queue {
	q := newQueue(n, e)
	q.looks = true
	return q
}

func newQueue(n int, e Exits) *Queue {
	q := &Queue{exits: e, room: make(chan struct{}, 1)}
	for range n {
		q.lanes = append(q.lanes, &Lane{q: q})
	}
	q.Lane = q.lanes[0]
	return q
}

// Kind returns the lane of a kind of worker, counted from 0.
func (q *Queue) Kind(i int) *Lane { return q.lanes[i] }

// unstartedLocked takes out everything that was not started.
func (q *Queue) unstartedLocked() (out []task.Task) {
	for _, l := range q.lanes {
		out = append(out, l.unstartedLocked()...)
	}
	return out
}

// giveAllBack gives tasks back, the latest claimed first: each goes to the head
// of the queue, and the old order is to come out of it.
func (q *Queue) giveAllBack(ts []task.Task) {
	slices.SortStableFunc(ts, func(a, b task.Task) int { return cmp.Compare(b.Seq, a.Seq) })
	for _, t := range ts {
		q.exits.GiveBack(t)
	}
}

// lookEvery is how often Want returns where nothing is wanted, see NewKinds.
const lookEvery = time.Second

// Want waits until at least one record may be claimed and returns how many.
// That is the number of free slots, plus what the children are so sure to take
// within aheadFor that claiming it early costs no one else's time.
func (q *Queue) Want(ctx context.Context) (int, error) {
	var look <-chan time.Time
	if q.looks {
		ticker := time.NewTicker(lookEvery)
		defer ticker.Stop()
		look = ticker.C
	}
	for {
		q.mu.Lock()
		late := q.takeOverdueLocked()
		n, halted := q.wantLocked(), q.halted
		if q.looking = n <= 0 && q.lastLook; q.looking {
			n = 1
		}
		q.lastLook = false
		hold := q.holdEndsLocked()
		q.mu.Unlock()
		q.setAside(late)
		switch {
		case halted:
			return 0, ErrClosed
		case n > 0:
			return n, nil
		}
		looked, err := q.awaitChange(ctx, look, hold)
		if err != nil || looked {
			return 0, err
		}
	}
}

// awaitChange waits until a Want has something to look at: room, or the end of the
// hold, if there is one. looked says that it is time for a look of NewKinds.
func (q *Queue) awaitChange(ctx context.Context, look <-chan time.Time, hold time.Duration) (looked bool, err error) {
	var end <-chan time.Time
	if hold > 0 {
		timer := time.NewTimer(hold)
		defer timer.Stop()
		end = timer.C
	}
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-q.room:
	case <-end:
	case <-look:
		return !q.IsQuiet(), nil
	}
	return false, nil
}

// Wants is how many records of each kind may be claimed now.
func (q *Queue) Wants() []int {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := make([]int, len(q.lanes))
	for i, l := range q.lanes {
		list[i] = l.wantLocked()
	}
	return list
}

// AwaitRoom waits until there may be more room than before, and for d at most.
func (q *Queue) AwaitRoom(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-q.room:
	case <-timer.C:
	}
}

func (q *Queue) wantLocked() (n int) {
	for _, l := range q.lanes {
		n += l.wantLocked()
	}
	return n
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
// everything that was put before it has ended, and nothing is wanted meanwhile;
// what came with it is given back. It waits for quietFor at most, and is then set
// aside for a sidecar that has less to do. While it runs, and nothing else does,
// nothing is wanted either: its death is then not shared. isolation has the bounds
// of both. While Quiet holds, or no child is up, all are given back.
func (q *Queue) Put(ts []task.Task) {
	q.mu.Lock()
	var back, aside []task.Task
	for i := range ts {
		t := &ts[i]
		l := q.lanes[t.Route]
		unwanted := q.looking && l.freeLocked() <= 0
		switch {
		case q.closed, !q.halted && (unwanted || q.quiet || l.capacity <= 0 || q.heldLocked()):
			back = append(back, *t)
		case q.halted:
			l.ready = append(l.ready, *t)
		case t.Lone != task.AloneInRun:
			l.ready = append(l.ready, *t)
		case q.idleLocked() || q.creditLocked() >= quietFor:
			q.isolateLocked(*t)
		default:
			aside = append(aside, *t)
		}
	}
	q.serveLocked()
	q.mu.Unlock()
	q.giveAllBack(back)
	q.setAside(aside)
}

// Expect tells that n more tasks of a kind are claimed and will be put later, or
// fewer for a negative n: nothing is wanted for their slots. It ignores a route that
// is no kind.
func (q *Queue) Expect(route, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if route < 0 || route >= len(q.lanes) {
		return
	}
	q.lanes[route].expected += n
	q.announceLocked()
}

// serveLocked hands ready tasks to waiting takers.
func (q *Queue) serveLocked() {
	for _, l := range q.lanes {
		l.serveLocked()
	}
}

// idleLocked: nothing is at work, and nothing is about to be.
func (q *Queue) idleLocked() bool {
	return !slices.ContainsFunc(q.lanes, func(l *Lane) bool { return l.running != l.waiting || len(l.ready) > 0 })
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
