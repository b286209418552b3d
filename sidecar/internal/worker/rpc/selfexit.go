package rpc

import (
	"sync"
	"time"
)

// selfExits records after how many answers workers exit by themselves with status 0, so
// that a worker which is about to exit is not given a task. Its methods may be called
// concurrently.
type selfExits struct {
	mu    sync.Mutex
	after int           // number of answers; 0 if no worker has exited
	delay time.Duration // from that answer to the next task
}

const (
	// selfExitWindow is the maximum time from a worker's last answer to its exit. A
	// task that was sent to it in this time counts as not begun.
	selfExitWindow = time.Second
	// minSelfExitDelay allows for the time that an exit takes on a busy machine.
	minSelfExitDelay = 50 * time.Millisecond
	// selfExitDelayFactor is how many times longer an exit may take than the last one.
	selfExitDelayFactor = 4
)

// learn records a worker that has exited after a number of answers, and the time from
// the last answer to the exit.
func (q *selfExits) learn(answers int, took time.Duration) {
	if took >= selfExitWindow {
		return // the worker was idle
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.after == 0 || answers < q.after {
		q.after = answers
	}
	q.delay = min(max(q.delay, selfExitDelayFactor*took, minSelfExitDelay), selfExitWindow)
}

// delayAfter returns how long after its last answer a worker must not be given a task.
func (q *selfExits) delayAfter(answers int) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.after == 0 || answers < q.after {
		return 0
	}
	return q.delay
}

// survived records a worker that has not exited when it was expected to. The next delay
// is after twice as many answers, so that a worker which goes on does not wait after
// each of them.
func (q *selfExits) survived(answers int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.after > 0 && answers >= q.after {
		q.after = 2 * answers
	}
}
