package task

// SlotState is the state of the slot that a running task uses. The zero value is the
// common one: a slot of a worker process that takes more tasks, with a working task.
type SlotState struct {
	// OutsideCapacity reports that the slot is not part of the capacity: the worker
	// process takes no more tasks, or was started for this task only.
	OutsideCapacity bool
	// Waiting reports that the task only waits for other tasks (protocol rule P44), so
	// that an extra slot may be used meanwhile.
	Waiting bool
	// Isolated reports that the task requires IsolateRun.
	Isolated bool
}

// SlotState returns the slot state of a task that has just been acquired.
func (t *Task) SlotState() SlotState { return SlotState{Isolated: t.Isolation == IsolateRun} }
