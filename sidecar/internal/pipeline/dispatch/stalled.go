package dispatch

// Handover is a look at what the stage of the workers does with what is ready.
type Handover struct {
	// Taken counts the tasks that were taken since the start.
	Taken uint64
	// Startable says that a task is ready, and a slot free that may run it. A stage
	// that works takes it within moments, however long its tasks are.
	Startable bool
}

// Handover returns a snapshot. Of two of them with the same count, between which no
// slot was lost, the second one's task has waited all the time.
func (q *Queue) Handover() Handover {
	q.mu.Lock()
	defer q.mu.Unlock()
	h := Handover{Taken: q.taken}
	for _, l := range q.lanes {
		h.Startable = h.Startable || !q.halted && len(l.ready) > 0 && l.freeLocked() > 0 && l.permitsLocked() > 0
	}
	return h
}
