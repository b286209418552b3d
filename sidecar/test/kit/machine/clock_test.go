package machine

import (
	"runtime"
	"testing"
	"time"
)

// TestTheClockOfTheMachine checks that the clock agrees with the wall clock where there are
// enough processors, slows down as each thread gets less of one, and stops while the machine
// stands still.
func TestTheClockOfTheMachine(t *testing.T) {
	t.Parallel()
	began := time.Now()
	at := func(d time.Duration) time.Time { return began.Add(d) }
	c := &Clock{marks: []mark{{at: began}}}
	step := func(from, to time.Duration, n int) {
		for d := from + Every; d <= to; d += Every {
			c.tick(at(d), n)
		}
	}
	step(0, time.Second, 1)
	step(time.Second, 5*time.Second, 4*runtime.NumCPU())
	c.tick(at(9*time.Second), 1)
	step(9*time.Second, 10*time.Second, runtime.NumCPU())
	for _, x := range []struct {
		name     string
		from, to time.Duration
		want     time.Duration
	}{
		{"with time for all", 0, time.Second, time.Second},
		{"a part of it", 210 * time.Millisecond, 330 * time.Millisecond, 120 * time.Millisecond},
		{"a quarter for each", time.Second, 5 * time.Second, time.Second},
		{"stood still", 5 * time.Second, 9 * time.Second, 2 * Every},
		{"over all of them", 0, 10 * time.Second, 3*time.Second + 2*Every},
		{"before it went", -time.Second, time.Second, 2 * time.Second},
		{"not seen yet", 10 * time.Second, 12 * time.Second, 2 * time.Second},
	} {
		t.Run(x.name, func(t *testing.T) {
			if got := c.Between(at(x.from), at(x.to)); (got - x.want).Abs() > time.Millisecond {
				t.Errorf("%v, want %v", got, x.want)
			}
		})
	}
}
