package task

// Place is how a running task holds its slot. The zero Place is that of most
// tasks: in a child that takes more, and at work.
type Place struct {
	// Outside says that the slot is not among the capacity: the task's child
	// takes nothing more, or was started for this task alone.
	Outside bool
	// Waiting says that the task only waits for other tasks (protocol rule
	// P44), so that its slot may be lent.
	Waiting bool
	// Alone says that the task must be AloneInRun.
	Alone bool
}

// Place is how a task that has just been taken holds its slot.
func (t *Task) Place() Place { return Place{Alone: t.Lone == AloneInRun} }
