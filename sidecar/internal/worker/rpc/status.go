package rpc

import (
	"cmp"
	"slices"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
)

// Slots is a snapshot of every child that serves, by slot.
func (p *Pool) Slots() []worker.Slot {
	p.mu.Lock()
	list := make([]worker.Slot, 0, len(p.children))
	for c := range p.children {
		list = append(list, c.status())
	}
	p.mu.Unlock()
	slices.SortFunc(list, func(a, b worker.Slot) int {
		return cmp.Or(cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.Pid, b.Pid))
	})
	return list
}

func (c *child) status() worker.Slot {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := worker.Slot{Slot: c.slot, Pid: c.proc.Pid(), Concurrency: c.limit, Leaving: c.draining || c.condemned || c.cut || c.left, Lent: c.kind == kindLent}
	for _, r := range c.running {
		if r.fetching != nil {
			continue // not started
		}
		s.Tasks = append(s.Tasks, worker.Task{
			TaskID: r.task.Info.TaskID, SessionID: r.task.Info.SessionID, GroupID: r.task.Info.GroupID, Delivery: r.task.Delivery,
			Attempt: r.task.Attempt, Started: r.started, Waiting: r.waiting, Progress: r.said,
		})
	}
	slices.SortFunc(s.Tasks, func(a, b worker.Task) int { return a.Started.Compare(b.Started) })
	return s
}

// only returns the attributes that name the task when the child runs exactly
// one: with several, a line cannot be attributed.
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
