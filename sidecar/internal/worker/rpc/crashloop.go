package rpc

import (
	"fmt"
	"sync"
	"time"
)

// crashesInARow is how many consecutive workers every slot must have lost for the pool
// to be in a crash loop.
const crashesInARow = 5

// crashLoop detects crash loops. The pool is in a crash loop when every one of its
// slots has lost crashesInARow consecutive workers, none of which answered a task or
// lived for healthyAfter. The loop ends as soon as a worker does one of these. A worker
// that a bad task kills now and then is not a crash loop, nor is a pool in which one
// slot works.
type crashLoop struct {
	mu     sync.Mutex
	slots  int         // number of the pool's slots
	inARow map[int]int // consecutive deaths, by slot
	since  time.Time   // the start of the loop; zero if there is none
}

// CrashLoopError reports in one line that no worker keeps running.
type CrashLoopError struct {
	Worker string // the worker's name or command
	Deaths int    // consecutive deaths of each slot's worker
	Last   string // how the last worker ended
}

func (e *CrashLoopError) Error() string {
	return fmt.Sprintf("worker %q keeps dying: it ended %d times in a row without answering a task or living for %v; the last time it %s",
		e.Worker, e.Deaths, healthyAfter, e.Last)
}

// setSlots sets the number of slots.
func (c *crashLoop) setSlots(slots int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.slots = slots
}

// died counts a worker of a slot that ended by itself or did not start. It returns true
// when a crash loop begins with that.
func (c *crashLoop) died(slot int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inARow[slot]++
	if !c.since.IsZero() || c.slots == 0 {
		return false
	}
	bad := 0
	for _, n := range c.inARow {
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

// recovered records that the worker of a slot is useful. If that ends a crash loop, it
// returns how long the loop was.
func (c *crashLoop) recovered(slot int) (loop time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.inARow, slot)
	if !c.since.IsZero() {
		loop = time.Since(c.since)
		c.since = time.Time{}
	}
	return loop
}

func (c *crashLoop) isLooping() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.since.IsZero()
}
