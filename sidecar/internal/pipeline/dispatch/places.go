package dispatch

import (
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Limit bounds how many tasks run at once, however many slots the children
// have: slots, and of those that only wait for other tasks up to maxLent more.
// Without it the children's slots are the bound. Before anything else is called.
func (q *Queue) Limit(slots, maxLent int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.slots, q.maxLent = slots, maxLent
}

// lentLocked is how many slots are lent.
func (q *Queue) lentLocked() int { return min(q.waiting, q.maxLent) }

// permitsLocked is how many more tasks may run, whoever runs them.
func (q *Queue) permitsLocked() int {
	if q.slots == 0 {
		return len(q.ready) + 1
	}
	return max(q.slots+q.lentLocked()-q.running, 0)
}

// freeLocked is how many tasks can start now: that there are children for, and
// that may run.
func (q *Queue) freeLocked() int {
	free := q.capacity - (q.running - q.outside)
	if q.slots > 0 {
		free = min(free, q.permitsLocked())
	}
	return free
}

// Move tells that a running task holds its slot in another way.
//
// When a task begins to wait and no child is free, what was claimed ahead is
// given back: nobody knows when the slot that it was claimed for will be free,
// it may be the very tasks that are waited for, and others may have one.
func (q *Queue) Move(from, to task.Place) {
	q.mu.Lock()
	q.countLocked(from, -1)
	q.countLocked(to, 1)
	var back []task.Task
	if from.Waiting != to.Waiting {
		if to.Waiting {
			q.rate = rate{} // it was that of one slot more
		}
		q.serveLocked()
		if !q.halted && (q.alone > 0 || q.freeLocked() <= 0) {
			back = q.unstartedLocked()
			// A wait for records may have one on its way to us that nobody here
			// takes now.
			q.lastLook = !to.Waiting
		}
	}
	q.announceLocked()
	q.mu.Unlock()
	q.giveAllBack(back)
}

// End tells that a task has ended that held its slot in this way.
func (q *Queue) End(p task.Place) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.countLocked(p, -1)
	q.doneLocked(1)
}

// Done tells that n taken tasks have ended and their slots are free. It is End
// for stages whose tasks do not move.
func (q *Queue) Done(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.doneLocked(n)
}

func (q *Queue) doneLocked(n int) {
	q.running -= n
	if q.running == 0 {
		q.alone = 0
	}
	q.rate.add(time.Now(), n)
	q.serveLocked()
	q.announceLocked()
}

func (q *Queue) countLocked(p task.Place, n int) {
	if p.Outside {
		q.outside += n
	}
	if p.Waiting {
		q.waiting += n
	}
	if p.Alone && !p.Waiting && q.alone+n >= 0 {
		q.alone += n
	}
}

// Counts is a snapshot for status and tests.
type Counts struct{ Capacity, Running, Ready, Lent int }

// Counts returns the present numbers.
func (q *Queue) Counts() Counts {
	q.mu.Lock()
	defer q.mu.Unlock()
	return Counts{q.capacity, q.running, len(q.ready), q.lentLocked()}
}
