package dispatch

// Quiet makes the queue want nothing more until Resume: nothing new is
// claimed, while what was claimed before still starts and what runs goes on.
//
// One claim is still asked for. A blocking wait may have moved a record into
// this run's hands in the very moment; that claim finds it, and Put gives it
// back to the others, where it would else lie until Resume.
func (q *Queue) Quiet() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.quiet {
		return
	}
	q.quiet, q.lastLook = true, true
	q.announceLocked()
}

// Brought tells that a blocking wait has moved a record into this run's hands. One
// claim is asked for then, whether anything is wanted by now or not: the last worker
// may have gone meanwhile, and the record would lie hidden until one is back. Put
// gives back what nobody here takes.
func (q *Queue) Brought() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lastLook = true
	q.announceLocked()
}

// Resume ends Quiet.
func (q *Queue) Resume() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.quiet, q.lastLook = false, false
	q.announceLocked()
}

// IsQuiet reports whether Quiet holds.
func (q *Queue) IsQuiet() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.quiet
}
