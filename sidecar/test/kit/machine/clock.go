// Package machine has a clock for the time bounds of tests that slows down with the load of
// the machine: where eight threads want two processors, a second of the clock takes four
// seconds. While the machine stands still, so does the clock. The bounds that the product
// promises hold where it gets a processor, so a busy machine must not fail a test.
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

// Every is the interval at which a clock has to look at the machine.
const Every = 50 * time.Millisecond

// Clock is a clock that is slower than the wall clock on a busy machine. Its methods are safe
// for concurrent use.
type Clock struct {
	mu    sync.Mutex
	marks []mark
}

// mark is the reading of a clock at one wall time.
type mark struct {
	at   time.Time
	time time.Duration
}

// NewClock returns a clock that agrees with the wall clock until Run or Look makes it look at
// the machine.
func NewClock() *Clock { return &Clock{marks: []mark{{at: time.Now()}}} }

// Run makes the clock look at the machine for as long as the process lives; it does not
// return.
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

// Look advances the clock by the time since the last look, reduced by the load of the
// machine. Calls that come more often than Every are cheap.
func (c *Clock) Look() {
	now := time.Now()
	c.mu.Lock()
	early := now.Sub(c.marks[len(c.marks)-1].at) < Every
	c.mu.Unlock()
	if !early {
		c.tick(now, runnable())
	}
}

// tick advances the clock by the time since the last tick, in which n threads wanted a
// processor.
func (c *Clock) tick(now time.Time, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.marks[len(c.marks)-1]
	passed := min(now.Sub(last.at), 2*Every)
	share := min(1, float64(runtime.NumCPU())/float64(max(n, 1)))
	c.marks = append(c.marks, mark{now, last.time + time.Duration(share*float64(passed))})
}

// Between returns the time of this clock between two wall times. Wall time before the first
// and after the last look counts in full.
func (c *Clock) Between(from, to time.Time) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.until(to) - c.until(from)
}

// Since returns the time of this clock between then and now.
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

// runnable returns how many threads of this machine run or wait for a processor.
func runnable() int {
	text, err := os.ReadFile("/proc/loadavg") // 0.20 0.18 0.12 1/80 11206
	if fields := bytes.Fields(text); err == nil && len(fields) > 3 {
		running, _, _ := bytes.Cut(fields[3], []byte("/"))
		if n, err := strconv.Atoi(string(running)); err == nil {
			return n
		}
	}
	return 0 // without the file, assume a processor for each thread
}

// process is the clock of the whole test process.
var process = NewClock()

// Run makes the clock of the test process look at the machine and does not return. A suite
// with time bounds calls it once, in a goroutine of its own, in TestMain.
func Run() { process.Run() }

// Since returns the time of the test process's clock between then and now.
func Since(then time.Time) time.Duration { return process.Since(then) }

// Between returns the time of the test process's clock between two wall times.
func Between(from, to time.Time) time.Duration { return process.Between(from, to) }
