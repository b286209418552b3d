package rpc

import (
	"cmp"
	"slices"
	"time"
)

// SlotStatus is one serving child at a moment. A lone task's child has the
// slot of the child that took the task.
type SlotStatus struct {
	Slot, Pid   int
	Kind        string // pattern of the kind of worker, where there are several
	Concurrency int    // tasks at once
	Leaving     bool
	Lent        bool         // it is there because slots are lent
	Tasks       []TaskStatus // the longest running first
}

// TaskStatus is one running task.
type TaskStatus struct {
	TaskID, SessionID, GroupID, Delivery string

	Attempt  int
	Started  time.Time
	Waiting  bool // it only waits for other tasks
	Progress Progress
}

// Slots is a snapshot of every child that serves, by slot.
func (p *Pool) Slots() []SlotStatus {
	p.mu.Lock()
	list := make([]SlotStatus, 0, len(p.children))
	for c := range p.children {
		list = append(list, c.status())
	}
	p.mu.Unlock()
	slices.SortFunc(list, func(a, b SlotStatus) int {
		return cmp.Or(cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.Pid, b.Pid))
	})
	return list
}

func (c *child) status() SlotStatus {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := SlotStatus{Slot: c.slot, Pid: c.proc.Pid(), Concurrency: c.limit, Leaving: c.draining || c.condemned || c.cut || c.left, Lent: c.kind == kindLent}
	for _, r := range c.running {
		if r.fetching != nil {
			continue // not started
		}
		s.Tasks = append(s.Tasks, TaskStatus{
			TaskID: r.task.Info.TaskID, SessionID: r.task.Info.SessionID, GroupID: r.task.Info.GroupID, Delivery: r.task.Delivery,
			Attempt: r.task.Attempt, Started: r.started, Waiting: r.waiting, Progress: r.said,
		})
	}
	slices.SortFunc(s.Tasks, func(a, b TaskStatus) int { return a.Started.Compare(b.Started) })
	return s
}

// only returns the attributes that name the task when the child runs exactly
// one: with several, nobody can tell whose line it was.
func (c *child) only() []any {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.running) != 1 {
		return nil
	}
	for _, r := range c.running {
		return r.task.LogAttrs()
	}
	return nil
}
