package dispatch

import (
	"testing"
	"time"
)

// TestRate: completions are counted in windows of 20 ms. A pause of more than ten windows
// belongs to none, and makes an old rate invalid.
func TestRate(t *testing.T) {
	ms := func(n float64) time.Time {
		return time.Unix(1000, 0).Add(time.Duration(n * float64(time.Millisecond)))
	}
	var r rate
	for i, step := range []struct {
		add   float64 // ms; completions of one task each, except for none
		n     int
		at    float64 // of the question
		ahead int
	}{
		{0, 1, 0, 0},
		{19, 19, 19, 0}, // a window is not over
		{20, 20, 20, 12},
		{40, 20, 40, 6},
		{40, 0, 240, 6}, // the rate is ten windows old
		{40, 0, 240.001, 0},
		{240, 20, 240, 0}, // after a pause of ten windows: 100 a second
		{440.001, 20, 440.001, 0},
		{460.001, 20, 460.001, 12}, // after a longer pause: 40 tasks in 20 ms
		{480.001, 1 << 20, 480.001, maxAhead},
	} {
		if step.n > 0 {
			r.add(ms(step.add), step.n)
		}
		if got := r.ahead(ms(step.at)); got != step.ahead {
			t.Errorf("step %d: %d ahead, want %d", i, got, step.ahead)
		}
	}
}
