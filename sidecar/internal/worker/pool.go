// Package worker has what the three kinds of worker have in common: what the rest of
// the sidecar asks of them, what they say of themselves, and the environment that their
// processes get.
package worker

import (
	"context"
	"time"
)

// Pool is what runs the tasks, as the rest of the sidecar sees it: the stage
// of each mode is one. Methods may be called concurrently.
type Pool interface {
	// Run works until soft ends, then finishes what it has, and gives it back
	// when hard ends. It returns when no process is left: nil after a stop, a
	// StartError where the worker cannot be started at all.
	Run(soft, hard context.Context) error
	// Up is how many workers are up.
	Up() int
	// Restart replaces them one by one, and returns at once.
	Restart()
	// RestartSlot is Restart for one of them, and reports whether there is one.
	RestartSlot(slot int) bool
	// Evict ends every task of a run whose lease was lost. It returns when none
	// of them is running any more; none is started later.
	Evict(run string)
	// CrashLoop reports whether the workers keep dying.
	CrashLoop() bool
	// Slots is a snapshot of the workers.
	Slots() []Slot
}

// Slot is one serving child at a moment. A lone task's child has the
// slot of the child that took the task.
type Slot struct {
	Slot, Pid   int
	Kind        string // pattern of the kind of worker, where there are several
	Concurrency int    // tasks at once
	Leaving     bool
	Lent        bool   // it is there because slots are lent
	Tasks       []Task // the longest running first
}

// Task is one running task.
type Task struct {
	TaskID, SessionID, GroupID, Delivery string

	Attempt  int
	Started  time.Time
	Waiting  bool // it only waits for other tasks
	Progress Progress
}

// Progress is what a worker said last about a task with $/progress.
type Progress struct {
	At       time.Time // zero if it said nothing yet
	Fraction float64   // from 0 to 1; 0 too if it did not say
	Message  string
}
