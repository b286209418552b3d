package rpc

import (
	"encoding/json"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// kind says what a child is there for.
type kind int

const (
	kindSlot  kind = iota // one of the pool's regular children
	kindExtra             // for slots that are lent, see runExtra
	kindLone              // for one task, see runLone
)

// placeLocked is how a run holds its slot now.
func (c *child) placeLocked(r *run) task.SlotState {
	p := r.task.SlotState()
	p.OutsideCapacity, p.Waiting = c.left || c.kind == kindLone, r.waiting
	return p
}

// join adds the child's slots to the capacity.
func (c *child) join() { c.src.AddCapacity(c.limit) }

// leave takes them out again: the child takes nothing more. What still runs in
// it keeps its own until it ends, so that a child of long tasks that is being
// replaced takes nothing away from the others. It may be called more than once.
func (c *child) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		return
	}
	from := make([]task.SlotState, 0, len(c.running))
	for _, r := range c.running {
		from = append(from, c.placeLocked(r))
	}
	c.left = true
	for _, p := range from {
		to := p
		to.OutsideCapacity = true
		c.src.Update(p, to)
	}
	c.src.AddCapacity(-c.limit)
}

// waits handles $/waiting and $/resumed of a task. A repetition changes nothing.
func (c *child) waits(params []byte, on bool) {
	var p protocol.DeliveryParams
	if err := json.Unmarshal(params, &p); err != nil {
		c.print(params)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.running {
		if r.task.Delivery != p.Delivery || r.waiting == on {
			continue
		}
		from := c.placeLocked(r)
		r.waiting = on
		c.src.Update(from, c.placeLocked(r))
		if on {
			c.pool.noteWaiting(1)
		} else {
			c.pool.noteWaiting(-1)
		}
		return
	}
}
