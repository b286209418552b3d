package host

import (
	"math"
	"runtime"
	"runtime/debug"
	"testing"
	"time"
)

func TestTheHeapIsBoundByWhatIsKept(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		live, others uint64
		want         int64
	}{
		{0, 0, math.MaxInt64},
		{smallHeap, 5 * mb, math.MaxInt64},
		{10 * mb, 5 * mb, 31 * mb},
		{128 * mb, 5 * mb, 261 * mb},
	} {
		if got := heapLimit(c.live, c.others); got != c.want {
			t.Errorf("%d MB kept: %d, want %d", c.live/mb, got, c.want)
		}
	}
}

// The limit comes with large records, and goes with them.
func TestLargeRecordsBringALimit(t *testing.T) {
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(math.MaxInt64))
	defer BoundHeap()()
	await := func(what string, ok func(limit int64) bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); ; {
			runtime.GC()
			limit := debug.SetMemoryLimit(-1)
			if ok(limit) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("waited in vain for %s: the limit is %d", what, limit)
			}
		}
	}
	large := make([]byte, 64<<20)
	await("a limit", func(limit int64) bool { return limit > 64<<20 && limit < 256<<20 })
	runtime.KeepAlive(large)
	await("no limit", func(limit int64) bool { return limit == math.MaxInt64 })
}
