//go:build faults

package faults

import (
	"bytes"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"
)

// machine is the clock of all time bounds of the suite. It goes as fast as a process
// that wants a processor gets one: where eight wait for two processors, a second of it
// takes four. A machine that stands still stops it. What the product promises in seconds
// it promises where it can run.
var machine = newClock()

// clock is a time that goes slower than the one on the wall. Its methods may be called
// concurrently.
type clock struct {
	mu    sync.Mutex
	marks []mark
}

// mark says how far a clock was at a time.
type mark struct {
	at   time.Time
	time time.Duration
}

// clockEvery is how often the clock looks at the machine.
const clockEvery = 50 * time.Millisecond

func newClock() *clock { return &clock{marks: []mark{{at: time.Now()}}} }

// run keeps the clock going, for as long as the process lives.
func (c *clock) run() {
	for range time.Tick(clockEvery) {
		c.tick(time.Now(), runnable())
	}
}

// tick adds the time since the last tick, in which n threads wanted a processor.
func (c *clock) tick(now time.Time, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.marks[len(c.marks)-1]
	passed := min(now.Sub(last.at), 2*clockEvery)
	share := min(1, float64(runtime.NumCPU())/float64(max(n, 1)))
	c.marks = append(c.marks, mark{now, last.time + time.Duration(share*float64(passed))})
}

// between is how much of this clock's time there was. What it has not seen counts whole.
func (c *clock) between(from, to time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.until(to) - c.until(from)
}

// since is the time between then and now.
func (c *clock) since(then time.Time) time.Duration { return c.between(then, time.Now()) }

func (c *clock) until(at time.Time) time.Duration {
	i, _ := slices.BinarySearchFunc(c.marks, at, func(m mark, at time.Time) int { return m.at.Compare(at) })
	if i == 0 {
		return at.Sub(c.marks[0].at)
	}
	before := c.marks[i-1]
	passed := at.Sub(before.at)
	if i < len(c.marks) {
		after := c.marks[i]
		return before.time + time.Duration(float64(after.time-before.time)*float64(passed)/float64(after.at.Sub(before.at)))
	}
	return before.time + passed
}

// runnable is how many threads of this machine run or wait for a processor.
func runnable() int {
	text, err := os.ReadFile("/proc/loadavg") // 0.20 0.18 0.12 1/80 11206
	if fields := bytes.Fields(text); err == nil && len(fields) > 3 {
		running, _, _ := bytes.Cut(fields[3], []byte("/"))
		if n, err := strconv.Atoi(string(running)); err == nil {
			return n
		}
	}
	return 0 // a machine that does not tell is taken for one with time for all
}
