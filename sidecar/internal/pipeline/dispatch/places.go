package dispatch

import (
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Limit bounds how many tasks run at once, however many slots the children
// have: slots, and of those that only wait for other tasks up to maxLent more.
// Without it the children's slots are the bound. Before anything else is called.
func (l *Lane) Limit(slots, maxLent int) {
	l.q.mu.Lock()
	defer l.q.mu.Unlock()
	l.slots, l.maxLent = slots, maxLent
}

// lentLocked is how many slots are lent.
func (l *Lane) lentLocked() int { return min(l.waiting, l.maxLent) }

// permitsLocked is how many more tasks may run, whoever runs them.
func (l *Lane) permitsLocked() int {
	if l.slots == 0 {
		return len(l.ready) + 1
	}
	return max(l.slots+l.lentLocked()-l.running, 0)
}

// freeLocked is how many tasks can start now: that there are children for, and
// that may run.
func (l *Lane) freeLocked() int {
	free := l.capacity - (l.running - l.outside)
	if l.slots > 0 {
		free = min(free, l.permitsLocked())
	}
	return free
}

// Move tells that a running task holds its slot in another way.
//
// When a task begins to wait and no child is free, what was claimed ahead is
// given back: nobody knows when the slot that it was claimed for will be free,
// it may be the very tasks that are waited for, and others may have one.
func (l *Lane) Move(from, to task.Place) {
	q := l.q
	q.mu.Lock()
	l.countLocked(from, -1)
	l.countLocked(to, 1)
	q.heldLocked()
	var back []task.Task
	if from.Waiting != to.Waiting {
		if to.Waiting {
			l.rate = rate{} // it was that of one slot more
		}
		q.serveLocked()
		switch {
		case q.halted:
		case q.isolation.pending == nil && q.heldLocked(): // alone again: whatever the kind
			back = q.unstartedLocked()
			q.lastLook = !to.Waiting
		case l.freeLocked() <= 0:
			back = l.unstartedLocked()
			// A wait for records may have one on its way to us that nobody here
			// takes now.
			q.lastLook = !to.Waiting
		}
	}
	q.announceLocked()
	q.mu.Unlock()
	q.giveAllBack(back)
}

// End tells that a task has ended that held its slot in this way. Of a task that
// never moved this is its task.Task.Place.
func (l *Lane) End(p task.Place) { l.EndAll([]task.Place{p}) }

// EndAll is End for several tasks. It does not keep the slice.
func (l *Lane) EndAll(ps []task.Place) {
	q := l.q
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range ps {
		l.countLocked(p, -1)
	}
	l.running -= len(ps)
	q.heldLocked()
	l.rate.add(time.Now(), len(ps))
	q.serveLocked()
	q.announceLocked()
}

func (l *Lane) countLocked(p task.Place, n int) {
	if p.Outside {
		l.outside += n
	}
	if p.Waiting {
		l.waiting += n
	}
	if p.Alone && !p.Waiting {
		l.q.isolation.working += n
	}
}

// Counts is a snapshot for status and tests.
type Counts struct{ Capacity, Running, Ready, Lent int }

// Counts returns the present numbers, those of all kinds together.
func (q *Queue) Counts() Counts {
	q.mu.Lock()
	defer q.mu.Unlock()
	var c Counts
	for _, l := range q.lanes {
		c.Capacity += l.capacity
		c.Running += l.running
		c.Ready += len(l.ready)
		c.Lent += l.lentLocked()
	}
	if q.isolation.pending != nil {
		c.Ready++
	}
	return c
}
