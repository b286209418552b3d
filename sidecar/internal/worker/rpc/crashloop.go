package rpc

import (
	"fmt"
	"sync"
	"time"
)

// crashesInARow is how often each slot's worker must have ended, one process
// after another, for the pool to be in a crash loop.
const crashesInARow = 5

// crashes knows whether the pool is in a crash loop: every one of its slots has
// lost crashesInARow workers in a row, none of which answered a task or lived
// for healthyAfter. It is over as soon as one does either. A worker that a bad
// task kills now and then is in none, and neither is a pool with one slot that
// works.
type crashes struct {
	mu    sync.Mutex
	slots int         // how many count
	row   map[int]int // deaths in a row, by slot
	since time.Time   // of the loop; zero without one
}

// CrashLoopError says that no worker keeps running, in one line.
type CrashLoopError struct {
	Worker string // its name or command
	Deaths int    // of each slot's worker, in a row
	Last   string // what became of the last one
}

func (e *CrashLoopError) Error() string {
	return fmt.Sprintf("worker %q keeps dying: it ended %d times in a row without answering a task or living for %v; the last time it %s",
		e.Worker, e.Deaths, healthyAfter, e.Last)
}

// count sets how many slots there are.
func (c *crashes) count(slots int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slots = slots
}

// died counts a worker of a slot that ended by itself, or did not start. It is
// true where that makes a crash loop.
func (c *crashes) died(slot int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.row[slot]++
	if !c.since.IsZero() || c.slots == 0 {
		return false
	}
	bad := 0
	for _, n := range c.row {
		if n >= crashesInARow {
			bad++
		}
	}
	if bad < c.slots {
		return false
	}
	c.since = time.Now()
	return true
}

// well notes that a slot's worker is of use. It returns how long a crash loop
// was that this ends.
func (c *crashes) well(slot int) (loop time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.row, slot)
	if !c.since.IsZero() {
		loop = time.Since(c.since)
		c.since = time.Time{}
	}
	return loop
}

func (c *crashes) looping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.since.IsZero()
}
