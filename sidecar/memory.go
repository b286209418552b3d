package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A sidecar at work makes much garbage and keeps little: at 50,000 tasks a second
// the collector ran a hundred times a second over a heap of 4 MB, and took a
// third of all the processor time. With more room it runs a fifth as often. An
// idle one has no use for that room, and gives it back.
const (
	busyPercent = 500
	idlePercent = 100
	busyCycles  = 5 // collections a second
	quietFor    = 30 * time.Second
)

// paceCollector gives the collector room while it has much to do, until the
// returned function is called. Who sets GOGC or GOMEMLIMIT knows better.
func paceCollector() (stop func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	go func() {
		defer close(over)
		p := pacer{set: func(percent int) { debug.SetGCPercent(percent) }, free: debug.FreeOSMemory}
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				p.look(now, collections())
			}
		}
	}()
	return func() { cancel(); <-over }
}

// profileMemory has the Go runtime note who allocates only where somebody can ask
// it: a stack for each half megabyte was 3 % of a busy sidecar's time.
func profileMemory(debugAddr string) {
	if debugAddr == "" {
		runtime.MemProfileRate = 0
	}
}

// collections is how often the collector has run.
func collections() uint64 {
	sample := []metrics.Sample{{Name: "/gc/cycles/automatic:gc-cycles"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}

// pacer decides; paceCollector says when and with what.
type pacer struct {
	set  func(percent int)
	free func()

	cycles uint64    // as of the last look
	busy   bool      // room was given
	last   time.Time // when the collector was last busy
}

func (p *pacer) look(now time.Time, cycles uint64) {
	ran := cycles - p.cycles
	p.cycles = cycles
	// With room there is less to see of the same work.
	if limit := uint64(busyCycles); ran >= limit || p.busy && ran >= limit*idlePercent/busyPercent {
		p.last = now
	}
	switch {
	case !p.busy && p.last.Equal(now):
		p.busy = true
		p.set(busyPercent)
	case p.busy && now.Sub(p.last) >= quietFor:
		p.busy = false
		p.set(idlePercent)
		p.free()
	}
}
