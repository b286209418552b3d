package dispatch

// Halt is the first half of Close: every waiting and later Take and Want fails,
// so nothing more is claimed or started, but what was not started is kept. The
// reply to a claim may still be on its way, and only when it is in can
// everything go back in its old order. It may be called more than once.
func (q *Queue) Halt() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.halted {
		return
	}
	q.halted = true
	q.announceLocked()
	for _, l := range q.lanes {
		for _, t := range l.takers {
			close(t.given)
		}
		l.takers = nil
	}
}

// Close halts, and gives back what was not started, before it returns: the
// latest claimed first, since each goes to the head of the queue and the old
// order is to come out of it. What is put or undone later is given back at
// once. It may be called more than once.
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
	q.giveAllBack(back)
}
