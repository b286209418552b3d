// Package dispatch is the stage between claiming and running. It computes how many tasks
// can start, queues claimed tasks that have not started, and gives them to the worker
// processes in the order of their claim.
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

// ErrClosed is returned by Demand and Acquire after Halt or Close: nothing more is claimed
// or started.
var ErrClosed = errors.New("dispatch: closed")

// Queue gives claimed tasks to the slots of the workers. Its methods and those of its lanes
// may be called concurrently.
//
// The worker stage adds slots (AddCapacity), acquires tasks (Acquire), updates the state of
// their slots (Update) and releases them (Release, ReleaseAll). The claim loop asks for the
// demand (Demand) and offers the claimed tasks (Offer). Tasks that were claimed and never
// started leave through Exits.
//
// Each kind of worker has a lane. A task that must run alone in the sidecar runs alone over
// all lanes.
type Queue struct {
	*Lane // the first one; the only one if there is one kind of worker

	exits    Exits
	periodic bool // see NewKinds

	mu               sync.Mutex
	lanes            []*Lane
	halted           bool // see Halt
	closed           bool // see Close
	quiet            bool // see Quiet
	lastClaim        bool // one more claim without demand, see Quiet
	lastClaimPending bool // that claim is under way
	isolation        isolation
	demandChanged    chan struct{} // one token: the demand may have grown
	taken            uint64        // see Handover
}

// Exits are the ways out of a queue for tasks that were offered and will never be acquired.
// The queue calls exactly one of them, once for each such task, without holding its lock.
type Exits struct {
	// Requeue returns a task to the head of the queue in Redis.
	Requeue func(task.Task)
	// Defer delays a task that must run alone in a sidecar and could not, for an idle
	// sidecar. This sidecar would otherwise claim it again at once.
	Defer func(task.Task)
}

// New returns an empty queue for one kind of worker.
func New(e Exits) *Queue { return newQueue(1, e) }

// NewKinds returns an empty queue for n kinds of worker. Its Demand returns once a second
// even without demand, because a claim by kinds also maintains the unrouted records.
func NewKinds(n int, e Exits) *Queue {
	q := newQueue(n, e)
	q.periodic = true
	return q
}

func newQueue(n int, e Exits) *Queue {
	q := &Queue{exits: e, demandChanged: make(chan struct{}, 1)}
	for range n {
		q.lanes = append(q.lanes, &Lane{q: q})
	}
	q.Lane = q.lanes[0]
	return q
}

// LaneOf returns the lane of a kind of worker, by its index.
func (q *Queue) LaneOf(kind int) *Lane { return q.lanes[kind] }

// demandInterval is the interval at which Demand returns without demand, see NewKinds.
const demandInterval = time.Second

// Demand waits until at least one record may be claimed and returns how many: the number of
// free slots, plus the tasks that the workers will certainly start within aheadFor. Claiming
// those early delays no other sidecar.
func (q *Queue) Demand(ctx context.Context) (int, error) {
	var tick <-chan time.Time
	if q.periodic {
		ticker := time.NewTicker(demandInterval)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		q.mu.Lock()
		expired := q.expirePendingLocked()
		n, halted := q.demandLocked(), q.halted
		if q.lastClaimPending = n <= 0 && q.lastClaim; q.lastClaimPending {
			n = 1
		}
		q.lastClaim = false
		blockEnds := q.blockEndsLocked()
		q.mu.Unlock()
		q.deferAll(expired)
		switch {
		case halted:
			return 0, ErrClosed
		case n > 0:
			return n, nil
		}
		ticked, err := q.awaitChange(ctx, tick, blockEnds)
		if err != nil || ticked {
			return 0, err
		}
	}
}

// awaitChange waits until the demand may have changed, or until claims are no longer
// blocked, which is after blockEnds unless that is 0. ticked reports a tick of NewKinds.
func (q *Queue) awaitChange(ctx context.Context, tick <-chan time.Time, blockEnds time.Duration) (ticked bool, err error) {
	var end <-chan time.Time
	if blockEnds > 0 {
		timer := time.NewTimer(blockEnds)
		defer timer.Stop()
		end = timer.C
	}
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case <-q.demandChanged:
	case <-end:
	case <-tick:
		return !q.IsQuiet(), nil
	}
	return false, nil
}

// Demands returns the number of records of each kind that may be claimed now.
func (q *Queue) Demands() []int {
	q.mu.Lock()
	defer q.mu.Unlock()
	list := make([]int, len(q.lanes))
	for i, l := range q.lanes {
		list[i] = l.demandLocked()
	}
	return list
}

// AwaitDemand waits until the demand may have grown, and for d at most.
func (q *Queue) AwaitDemand(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-q.demandChanged:
	case <-timer.C:
	}
}

// demandLocked returns the demand of all lanes.
func (q *Queue) demandLocked() (n int) {
	for _, l := range q.lanes {
		n += l.demandLocked()
	}
	return n
}

// signalDemandLocked wakes Demand. One token is enough: there is one claim loop, and it
// computes the demand again after each token.
func (q *Queue) signalDemandLocked() {
	if q.halted || q.lastClaim || q.demandLocked() > 0 {
		select {
		case q.demandChanged <- struct{}{}:
		default:
		}
	}
}

// Expect reserves slots for n tasks of a kind that are claimed and will be offered later; a
// negative n removes reservations. It ignores task.KindUnknown and task.KindNone.
func (q *Queue) Expect(kind, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if kind < 0 || kind >= len(q.lanes) {
		return
	}
	q.lanes[kind].expected += n
	q.signalDemandLocked()
}

// Offer adds claimed tasks, in the order of their claim. After Halt they are requeued with
// all others, after Close at once. While the queue is quiet, or without capacity, all tasks
// are requeued.
//
// A task that must run alone in the sidecar (task.IsolateRun) waits until all earlier tasks
// have ended. There is no demand meanwhile, and tasks that were claimed with it are requeued.
// After isolationWait it is deferred for a less busy sidecar. While it runs alone there is no
// demand either, so that its loss is not shared. The type isolation bounds both times.
func (q *Queue) Offer(ts []task.Task) {
	q.mu.Lock()
	var back, aside []task.Task
	for i := range ts {
		t := &ts[i]
		l := q.lanes[t.Kind]
		noSlot := q.lastClaimPending && l.freeLocked() <= 0
		switch {
		case q.closed, !q.halted && (noSlot || q.quiet || l.capacity <= 0 || q.blockedLocked()):
			back = append(back, *t)
		case q.halted:
			l.ready = append(l.ready, *t)
		case t.Isolation != task.IsolateRun:
			l.ready = append(l.ready, *t)
		case q.idleLocked() || q.creditLocked() >= isolationWait:
			q.isolateLocked(*t)
		default:
			aside = append(aside, *t)
		}
	}
	q.serveLocked()
	q.mu.Unlock()
	q.requeueAll(back)
	q.deferAll(aside)
}

// serveLocked gives ready tasks of all lanes to the waiting acquirers.
func (q *Queue) serveLocked() {
	for _, l := range q.lanes {
		l.serveLocked()
	}
}

// idleLocked reports whether no task works and none is ready.
func (q *Queue) idleLocked() bool {
	return !slices.ContainsFunc(q.lanes, func(l *Lane) bool { return l.running != l.waiting || len(l.ready) > 0 })
}

// Handover returns a snapshot. If two snapshots are startable and have the same Taken, the
// task has waited from the first to the second.
func (q *Queue) Handover() Handover {
	q.mu.Lock()
	defer q.mu.Unlock()
	h := Handover{Taken: q.taken}
	for _, l := range q.lanes {
		h.Startable = h.Startable || !q.halted && len(l.ready) > 0 && l.freeLocked() > 0
	}
	return h
}

// Counts returns the counters of all kinds together.
func (q *Queue) Counts() Counts {
	q.mu.Lock()
	defer q.mu.Unlock()
	var c Counts
	for _, l := range q.lanes {
		c.Capacity += l.capacity
		c.Running += l.running
		c.Ready += len(l.ready)
		c.Extra += l.extraLocked()
	}
	if q.isolation.pending != nil {
		c.Ready++
	}
	return c
}

// Quiet stops the demand until Resume: nothing new is claimed, while claimed tasks still
// start and running tasks continue.
//
// One more claim is requested. A blocking wait may have moved a record into the run's inbox
// at that moment; the claim finds it, and Offer requeues it. The record would otherwise stay
// in the inbox until Resume.
func (q *Queue) Quiet() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.quiet {
		return
	}
	q.quiet, q.lastClaim = true, true
	q.signalDemandLocked()
}

// NotifyArrival requests one claim, even without demand, after a blocking wait has moved a
// record into the run's inbox. The last worker may have ended meanwhile, and the record would
// otherwise stay in the inbox until one is back. Offer requeues a record without a slot.
func (q *Queue) NotifyArrival() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lastClaim = true
	q.signalDemandLocked()
}

// Resume ends Quiet.
func (q *Queue) Resume() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.quiet, q.lastClaim = false, false
	q.signalDemandLocked()
}

// IsQuiet reports whether the queue is quiet.
func (q *Queue) IsQuiet() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.quiet
}

// Drop removes the tasks that were not started without requeueing them, and returns their
// number. It is for a run that has lost its lease: other sidecars have the records.
func (q *Queue) Drop() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := len(q.unstartedLocked())
	q.signalDemandLocked()
	return n
}

// Halt is the first half of Close. Every waiting and later Acquire and Demand fails, so that
// nothing more is claimed or started. Tasks that were not started are kept: the reply of a
// claim may still arrive, and all tasks can be requeued in their order only afterwards. It
// may be called more than once.
func (q *Queue) Halt() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.halted = true
	q.signalDemandLocked()
	for _, l := range q.lanes {
		for _, t := range l.acquirers {
			close(t.given)
		}
		l.acquirers = nil
	}
}

// Close halts the queue and requeues the tasks that were not started, before it returns. The
// latest claimed goes first, since each goes to the head of the queue. Tasks that are offered
// or returned later are requeued at once. It may be called more than once.
func (q *Queue) Close() {
	q.Halt()
	q.mu.Lock()
	q.closed = true
	back := q.unstartedLocked()
	q.mu.Unlock()
	q.requeueAll(back)
}

// unstartedLocked removes and returns the tasks of all lanes that were not started.
func (q *Queue) unstartedLocked() (out []task.Task) {
	for _, l := range q.lanes {
		out = append(out, l.unstartedLocked()...)
	}
	return out
}

// requeueAll requeues tasks, the latest claimed first: each goes to the head of the queue,
// so that their order is restored.
func (q *Queue) requeueAll(ts []task.Task) {
	slices.SortStableFunc(ts, func(a, b task.Task) int { return cmp.Compare(b.Seq, a.Seq) })
	for _, t := range ts {
		q.exits.Requeue(t)
	}
}
