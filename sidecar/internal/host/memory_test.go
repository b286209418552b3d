package host

import (
	"math"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"time"
)

func TestTheGrowthOfTheHeap(t *testing.T) {
	const mb = 1 << 20
	for _, c := range []struct {
		name string
		kept uint64
		row  int
		want int
	}{
		{"idle", mb, 0, usualGrowth},
		{"a burst", 2 * mb, busyRow - 1, usualGrowth},
		{"much to do", 2 * mb, busyRow, busyGrowth},
		{"large records in few slots", 8 * mb, busyRow, 100},
		{"large records in many slots", 128 * mb, busyRow, 50},
		{"large records, and little to do", 128 * mb, 0, 50},
	} {
		if got := growth(c.kept, c.row); got != c.want {
			t.Errorf("%s: %d %%, want %d %%", c.name, got, c.want)
		}
	}
}

// percent is what the collector goes by.
func percent() uint64 {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// The growth shrinks with large records, and grows with collections in a row.
func TestTheCollectorIsTuned(t *testing.T) {
	t.Setenv("GOGC", "")
	defer debug.SetGCPercent(100)
	TuneCollector()
	await := func(what string, ok func(percent uint64) bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !ok(percent()); runtime.GC() {
			if time.Now().After(deadline) {
				t.Fatalf("waited in vain for %s: it is %d %%", what, percent())
			}
		}
	}
	large := make([]byte, 64<<20)
	await("half of a large heap", func(p uint64) bool { return p >= 45 && p <= 60 })
	runtime.KeepAlive(large)
	await("room for a busy time", func(p uint64) bool { return p == busyGrowth })
}

// GOMEMLIMIT stays as it is, and a machine without a control group changes nothing.
func TestTheMemoryLimit(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(math.MaxInt64))
	t.Setenv("GOMEMLIMIT", "1GiB")
	debug.SetMemoryLimit(1 << 30)
	if err := LimitMemory(); err != nil || debug.SetMemoryLimit(-1) != 1<<30 {
		t.Errorf("with GOMEMLIMIT: %v, a limit of %d", err, debug.SetMemoryLimit(-1))
	}
	if err := os.Unsetenv("GOMEMLIMIT"); err != nil {
		t.Fatal(err)
	}
	debug.SetMemoryLimit(math.MaxInt64)
	if err := LimitMemory(); err != nil && debug.SetMemoryLimit(-1) != math.MaxInt64 {
		t.Errorf("%v, and a limit of %d all the same", err, debug.SetMemoryLimit(-1))
	}
}
