package dispatch

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
