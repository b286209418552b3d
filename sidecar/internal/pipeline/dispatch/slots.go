package dispatch

import (
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Limit bounds the number of tasks that run at once: slots, plus up to maxExtra while as many
// tasks only wait for other tasks. Without Limit the capacity is the bound. It must be called
// before any other method.
func (l *Lane) Limit(slots, maxExtra int) {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	l.slots, l.maxExtra = slots, maxExtra
}

// extraLocked returns the number of extra slots.
func (l *Lane) extraLocked() int { return min(l.waiting, l.maxExtra) }

// permitsLocked returns the number of tasks that Limit still allows to start.
func (l *Lane) permitsLocked() int {
	if l.slots == 0 {
		return len(l.ready) + 1
	}
	return max(l.slots+l.extraLocked()-l.running, 0)
}

// freeLocked returns the number of tasks that can start now: the free capacity within Limit.
func (l *Lane) freeLocked() int {
	free := l.capacity - (l.running - l.outsideCapacity)
	if l.slots > 0 {
		free = min(free, l.permitsLocked())
	}
	return free
}

// Update changes the slot state of a running task.
//
// When a task begins to wait and no slot is free, the tasks that were claimed ahead are
// requeued: it is unknown when a slot becomes free, they may be the tasks that are waited
// for, and other sidecars may have free slots.
func (l *Lane) Update(from, to task.SlotState) {
	q := l.q
	q.mu.Lock()
	l.countLocked(from, -1)
	l.countLocked(to, 1)
	q.blockedLocked()
	var back []task.Task
	if from.Waiting != to.Waiting {
		if to.Waiting {
			l.rate = rate{} // measured with one working slot more
		}
		q.serveLocked()
		switch {
		case q.halted:
		case q.isolation.pending == nil && q.blockedLocked(): // alone again, over all kinds
			back = q.unstartedLocked()
			q.lastClaim = !to.Waiting
		case l.freeLocked() <= 0:
			back = l.unstartedLocked()
			// A blocking wait may bring a record for which there is no slot now.
			q.lastClaim = !to.Waiting
		}
	}
	q.signalDemandLocked()
	q.mu.Unlock()
	q.requeueAll(back)
}

// Release releases the slot of an ended task. p is its last state: without an Update, that of
// task.Task.SlotState.
func (l *Lane) Release(p task.SlotState) { l.ReleaseAll([]task.SlotState{p}) }

// ReleaseAll releases the slots of several ended tasks. It does not retain the slice.
func (l *Lane) ReleaseAll(ps []task.SlotState) {
	q := l.q
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range ps {
		l.countLocked(p, -1)
	}
	l.running -= len(ps)
	q.blockedLocked()
	l.rate.add(time.Now(), len(ps))
	q.serveLocked()
	q.signalDemandLocked()
}

// countLocked adds n to the counters of a slot state.
func (l *Lane) countLocked(p task.SlotState, n int) {
	if p.OutsideCapacity {
		l.outsideCapacity += n
	}
	if p.Waiting {
		l.waiting += n
	}
	if p.Isolated && !p.Waiting {
		l.q.isolation.working += n
	}
}

// Counts is a snapshot of the counters, for the status and for tests.
type Counts struct{ Capacity, Running, Ready, Extra int }
