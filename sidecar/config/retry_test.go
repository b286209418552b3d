package config

import (
	"slices"
	"testing"
	"time"
)

func TestThePauseBeforeARetryDoublesUpToItsCap(t *testing.T) {
	r := Retry{Base: 100 * time.Millisecond, Max: time.Second}
	var got []time.Duration
	for _, attempt := range []int{0, 1, 2, 3, 4, 5, 6, 100} {
		got = append(got, r.Delay(attempt)/time.Millisecond)
	}
	if want := []time.Duration{100, 100, 200, 400, 800, 1000, 1000, 1000}; !slices.Equal(got, want) {
		t.Errorf("pauses in ms: %v, want %v", got, want)
	}
}

// Chance only ever shortens a pause, by up to the given share, and spreads it
// over all of that.
func TestJitterTakesOffUpToItsShare(t *testing.T) {
	r := Retry{Base: time.Second, Max: time.Minute, Jitter: 0.5}
	least, most := time.Hour, time.Duration(0)
	for range 10_000 {
		d := r.Delay(3)
		least, most = min(least, d), max(most, d)
	}
	if least < 2*time.Second || most > 4*time.Second || least > 2100*time.Millisecond || most < 3900*time.Millisecond {
		t.Errorf("pauses from %v to %v; want 2 s to 4 s", least, most)
	}
}
