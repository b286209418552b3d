package host

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// Growth is how much the heap grows until the next collection, in percent of what the
// last one kept. No single value serves: with 100 a third of a busy sidecar's processor
// time goes into collections, since it keeps 2 MB and makes 100 MB of garbage a second;
// with 500 an idle one holds 20 MB; and records of a megabyte in every slot, which are
// cheap to collect since they hold no pointers, would take eight times their size.
const (
	usualGrowth = 100 // Go's default: 4 MB at least
	busyGrowth  = 500 // 20 MB at least

	// A sidecar is busy after busyRow collections in a row that were quick: five a
	// second, with the usual growth. The first records of a megabyte make two.
	busyRow = 3
	quick   = 200 * time.Millisecond

	largeHeap = 4 << 20 // bytes kept; more are kept only where records are large
	leastRoom = 8 << 20 // bytes beside a large heap
)

// growth is for a heap of which a collection kept so many bytes, after so many quick
// collections in a row.
func growth(kept uint64, row int) int {
	switch {
	case kept > largeHeap:
		return int(100 * max(leastRoom, kept/2) / kept)
	case row >= busyRow:
		return busyGrowth
	default:
		return usualGrowth
	}
}

// TuneCollector sets the growth of the heap after each collection. GOGC in the
// environment switches that off.
func TuneCollector() {
	if os.Getenv("GOGC") != "" {
		return
	}
	last, percent, row := time.Now(), usualGrowth, 0
	afterCollections(func() {
		now := time.Now()
		if now.Sub(last)*usualGrowth < quick*time.Duration(percent) {
			row++
		} else {
			row = 0
		}
		if p := growth(keptBytes(), row); p != percent {
			percent = p
			debug.SetGCPercent(p)
		}
		last = now
	})
}

// LimitMemory sets Go's memory limit to 90 % of the control group's. GOMEMLIMIT and
// AUTOMEMLIMIT=off in the environment switch that off. Without a control group there
// is no limit, and an error that says why.
func LimitMemory() error {
	_, err := memlimit.Set()
	return err
}

// afterCollections has do called after each collection, by a goroutine of Go's
// cleanups: it must be short. Two calls never overlap.
func afterCollections(do func()) {
	type garbage struct{ _ [4]uintptr } // too large to share its memory with others
	runtime.AddCleanup(new(garbage), func(do func()) {
		do()
		afterCollections(do)
	}, do)
}

// keptBytes is what the last collection has left in the heap.
func keptBytes() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}

// ProfileMemory has the Go runtime record the stacks of allocations only where a debug
// address serves them: a stack for each half megabyte was 3 % of a busy sidecar's time.
func ProfileMemory(debugAddr string) {
	if debugAddr == "" {
		runtime.MemProfileRate = 0
	}
}
