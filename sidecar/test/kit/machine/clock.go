// Package machine has a clock for the time bounds of tests. It goes as fast as a process
// that wants a processor gets one: where eight wait for two processors, a second of it
// takes four. A machine that stands still stops it. What the product promises in seconds
// it promises where it can run, and a busy machine fails no test.
package machine

import (
	"bytes"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Every is how often a clock has to look at the machine.
const Every = 50 * time.Millisecond

// Clock is a time that goes slower than the one on the wall. Its methods may be called
// concurrently.
type Clock struct {
	mu    sync.Mutex
	marks []mark
}

// mark says how far a clock was at a time.
type mark struct {
	at   time.Time
	time time.Duration
}

// NewClock returns a clock that goes with the wall's until it is told to look at the
// machine, by Run or by Look.
func NewClock() *Clock { return &Clock{marks: []mark{{at: time.Now()}}} }

// Run keeps the clock going, for as long as the process lives.
func (c *Clock) Run() {
	for range time.Tick(Every) {
		c.Look()
	}
}

// Watch returns a clock that looks at the machine until the test ends.
func Watch(t testing.TB) *Clock {
	c := NewClock()
	over, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(Every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				c.Look()
			case <-over:
				return
			}
		}
	}()
	t.Cleanup(func() {
		close(over)
		<-ended
	})
	return c
}

// Look makes the clock go on by what the time since the last look was worth. It costs
// little when called more often than Every.
func (c *Clock) Look() {
	now := time.Now()
	c.mu.Lock()
	early := now.Sub(c.marks[len(c.marks)-1].at) < Every
	c.mu.Unlock()
	if !early {
		c.tick(now, runnable())
	}
}

// tick adds the time since the last tick, in which n threads wanted a processor.
func (c *Clock) tick(now time.Time, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.marks[len(c.marks)-1]
	passed := min(now.Sub(last.at), 2*Every)
	share := min(1, float64(runtime.NumCPU())/float64(max(n, 1)))
	c.marks = append(c.marks, mark{now, last.time + time.Duration(share*float64(passed))})
}

// Between returns how much of this clock's time there was. What it has not seen counts
// whole.
func (c *Clock) Between(from, to time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.until(to) - c.until(from)
}

// Since returns the time between then and now.
func (c *Clock) Since(then time.Time) time.Duration { return c.Between(then, time.Now()) }

func (c *Clock) until(at time.Time) time.Duration {
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

// process is the clock of the whole test process.
var process = NewClock()

// Run keeps the clock of the test process going. A suite with bounds calls it once, on a
// goroutine of its own, in TestMain.
func Run() { process.Run() }

// Since returns how much time of the test process's clock there was from then to now.
func Since(then time.Time) time.Duration { return process.Since(then) }

// Between returns how much time of the test process's clock there was.
func Between(from, to time.Time) time.Duration { return process.Between(from, to) }
