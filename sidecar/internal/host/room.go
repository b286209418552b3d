package host

import (
	"context"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// The room that PaceCollector gives is meant for small records: five times what is
// kept, which is 4 MB. With records of a megabyte that was up to fourteen times
// slots × size. So what lies beside a larger heap is bounded in bytes, from the next
// collection on: a look once a second comes too late. The collector has little to
// do for it, since large records hold no pointers; but with half of this room it
// gave back what the next record needed, and took a third more processor time.
const (
	smallHeap = 5 << 20 // kept: less has the room that PaceCollector gives
	leastRoom = 16 << 20
)

// heapLimit is how much memory Go may hold until the next collection, where the
// last one has left live bytes in the heap, and there are others beside it.
func heapLimit(live, others uint64) int64 {
	if live <= smallHeap {
		return math.MaxInt64
	}
	return int64(others + live + max(leastRoom, live))
}

// BoundHeap bounds the heap by what is kept in it, after each collection, until the
// returned function is called. Who sets GOGC or GOMEMLIMIT knows better.
func BoundHeap() (stop func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	var last atomic.Int64 // cleanups may overlap
	last.Store(math.MaxInt64)
	afterCollections(ctx, func() {
		if limit := heapLimit(heapNow()); last.Swap(limit) != limit {
			debug.SetMemoryLimit(limit)
		}
	})
	return cancel
}

// heapNow is what the last collection has left in the heap, and what Go holds
// beside it.
func heapNow() (live, others uint64) {
	names := [...]string{
		"/gc/heap/live:bytes", "/memory/classes/total:bytes", "/memory/classes/heap/released:bytes",
		"/memory/classes/heap/free:bytes", "/memory/classes/heap/objects:bytes",
	}
	var samples [len(names)]metrics.Sample
	for i, name := range names {
		samples[i].Name = name
	}
	metrics.Read(samples[:])
	var v [len(names)]uint64
	for i := range samples {
		if samples[i].Value.Kind() != metrics.KindUint64 {
			return 0, 0
		}
		v[i] = samples[i].Value.Uint64()
	}
	return v[0], v[1] - min(v[1], v[2]+v[3]+v[4])
}
