// Package worker has what the three kinds of worker share: the interface of a pool, its
// status, and the environment of worker processes.
package worker

import (
	"context"
	"time"
)

// Pool runs tasks. The worker stage of each mode is one. Its methods may be called
// concurrently.
type Pool interface {
	// Run works until soft ends, then finishes its tasks, and returns them when hard
	// ends. It returns when no process is left: nil after a stop, a StartError if the
	// worker cannot be started at all.
	Run(soft, hard context.Context) error
	// Up returns the number of workers that are up.
	Up() int
	// Restart replaces the workers one by one. It returns at once.
	Restart()
	// RestartSlot replaces the workers of one slot. It reports whether there is one.
	RestartSlot(slot int) bool
	// Evict ends every task of a run that has lost its lease. It returns when none of
	// them runs any more; none starts later.
	Evict(run string)
	// CrashLoop reports whether the workers keep dying.
	CrashLoop() bool
	// Slots returns a snapshot of the workers.
	Slots() []Slot
}

// Slot is a snapshot of one serving worker process. The process of an isolated task has
// the slot of the process that acquired the task.
type Slot struct {
	Slot, Pid   int
	Kind        string // pattern of the kind of worker, if there are several
	Concurrency int    // tasks at once
	Leaving     bool
	Extra       bool   // it serves extra slots
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

// Progress is the last $/progress of a task.
type Progress struct {
	At       time.Time // zero before the first $/progress
	Fraction float64   // from 0 to 1; 0 if unknown
	Message  string
}
