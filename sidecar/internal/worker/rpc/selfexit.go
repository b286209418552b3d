package rpc

import (
	"sync"
	"time"
)

// quits is what a pool has learned of workers that exit with status 0 by themselves,
// after so many answers: one that is about to do that is not given a task in the last
// moment. Its methods may be called concurrently.
type quits struct {
	mu    sync.Mutex
	after int           // answers; 0 where none has done it
	hold  time.Duration // from that answer to the next task
}

const (
	// quitting is how long a worker may take from its last answer to its exit, for the
	// task that was sent to it meanwhile to count as not begun.
	quitting = time.Second
	// leastHold is for the exit of a process on a busy machine.
	leastHold = 50 * time.Millisecond
	// holdFactor is how many times longer than the last one an exit may take.
	holdFactor = 4
)

// learn notes a worker that has exited after some answers, and how long after the last
// one.
func (q *quits) learn(answers int, took time.Duration) {
	if took >= quitting {
		return // it was idle
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.after == 0 || answers < q.after {
		q.after = answers
	}
	q.hold = min(max(q.hold, holdFactor*took, leastHold), quitting)
}

// pause is how long after its last answer a worker must not be given a task.
func (q *quits) pause(answers int) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.after == 0 || answers < q.after {
		return 0
	}
	return q.hold
}

// survived notes a worker that has not exited when it might have. The next time is after
// twice as many answers: a worker that goes on for long must not wait after each of them.
func (q *quits) survived(answers int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.after > 0 && answers >= q.after {
		q.after = 2 * answers
	}
}
