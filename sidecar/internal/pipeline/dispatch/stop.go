package dispatch

// Halt is the first half of Close. Every waiting and later Acquire and Demand fails, so that
// nothing more is claimed or started. Tasks that were not started are kept: the reply of a
// claim may still arrive, and all tasks can be requeued in their order only afterwards. It
// may be called more than once.
func (q *Queue) Halt() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.halted {
		return
	}
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
	if q.closed {
		q.mu.Unlock()
		return
	}
	q.closed = true
	back := q.unstartedLocked()
	q.mu.Unlock()
	q.requeueAll(back)
}
