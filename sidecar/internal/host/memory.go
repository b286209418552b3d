package host

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
	idlePercent = 50 // of 2 MB at least: twice that is Go's own least heap
	busyCycles  = 5  // collections a second
	quietFor    = 30 * time.Second
	// settledAfter is when what only the start needed is given back: half a
	// second after the sidecar is ready, when the first tasks have been through.
	settledAfter = 500 * time.Millisecond
)

// PaceCollector gives the collector room while it has much to do, until the
// returned function is called. started is closed when the start is over. Who
// sets GOGC or GOMEMLIMIT knows better.
func PaceCollector(started <-chan struct{}) (stop func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	debug.SetGCPercent(idlePercent)
	go func() {
		defer close(over)
		p := pacer{set: func(percent int) { debug.SetGCPercent(percent) }, free: giveBack}
		p.run(ctx, started, watchCollections(ctx), collections)
	}()
	return func() { cancel(); <-over }
}

// ProfileMemory has the Go runtime note who allocates only where somebody can ask
// it: a stack for each half megabyte was 3 % of a busy sidecar's time.
func ProfileMemory(debugAddr string) {
	if debugAddr == "" {
		runtime.MemProfileRate = 0
	}
}

// giveBack returns memory that is not used to the system: that of the heap, and
// what lies in memory of the program itself and only a start, or a busy time, has
// called.
func giveBack() {
	debug.FreeOSMemory()
	unmapProgram()
}

// watchCollections returns a channel with one token: the collector has run. Nobody
// has to wake up and look while it has not.
func watchCollections(ctx context.Context) <-chan struct{} {
	ran := make(chan struct{}, 1)
	afterCollections(ctx, func() {
		select {
		case ran <- struct{}{}:
		default:
		}
	})
	return ran
}

// afterCollections has do called after each collection until ctx ends, by the
// goroutine of Go's cleanups: it must be short.
func afterCollections(ctx context.Context, do func()) {
	type garbage struct{ _ [4]uintptr } // too large to share its memory with others
	runtime.AddCleanup(new(garbage), func(ctx context.Context) {
		if ctx.Err() != nil {
			return
		}
		afterCollections(ctx, do) // first: whoever hears of this one is to hear of the next
		do()
	}, ctx)
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

// pacer decides; PaceCollector says with what.
type pacer struct {
	set  func(percent int)
	free func()

	cycles uint64    // as of the last look
	busy   bool      // room was given
	last   time.Time // when the collector was last busy
	litter bool      // the collector ran since free was called
	freed  time.Time // when that was
}

// run looks once a second, but only from a collection until a second without
// one: an idle process is not woken for it.
func (p *pacer) run(ctx context.Context, started, collected <-chan struct{}, count func() uint64) {
	p.cycles = count()
	var second, settled <-chan time.Time
	tick := time.NewTicker(time.Second)
	tick.Stop()
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-started:
			started = nil
			timer := time.NewTimer(settledAfter)
			defer timer.Stop()
			settled = timer.C
		case now := <-settled:
			settled = nil
			if !p.busy { // else it is done when that is over
				p.giveBack(now)
			}
		case <-collected:
			if second == nil {
				tick.Reset(time.Second)
				second = tick.C
			}
		case now := <-second:
			ran := p.look(now, count())
			p.litter = p.litter || ran > 0
			if ran > 0 || p.busy {
				continue
			}
			tick.Stop()
			second = nil
			// A collection goes through stack maps all over the program, and
			// comes after megabytes of garbage.
			if p.litter && now.Sub(p.freed) >= quietFor {
				p.giveBack(now)
			}
		}
	}
}

// look comes about once a second and returns how often the collector ran since.
func (p *pacer) look(now time.Time, cycles uint64) (ran uint64) {
	ran = cycles - p.cycles
	p.cycles = cycles
	// With room there is less to see of the same work.
	if limit := uint64(busyCycles); ran >= limit || p.busy && ran >= max(limit*idlePercent/busyPercent, 1) {
		p.last = now
	}
	switch {
	case !p.busy && p.last.Equal(now):
		p.busy = true
		p.set(busyPercent)
	case p.busy && now.Sub(p.last) >= quietFor:
		p.busy = false
		p.set(idlePercent)
		p.giveBack(now)
	}
	return ran
}

func (p *pacer) giveBack(now time.Time) {
	p.free()
	p.litter, p.freed = false, now
}
