package dispatch

import "time"

// aheadFor is the time by which a record may be claimed before a slot is free. No idle sidecar
// can start a task that is claimed here. It should start within 10 ms; a rate measured over a
// short window can be wrong by a half, so that 99 of 100 do (bench/RESULTS.md, claimed and
// not started).
const aheadFor = 6 * time.Millisecond

// maxAhead bounds the memory for tasks that take no time.
const maxAhead = 1024

// rateWindow is the minimum time over which completions are counted for a rate.
const rateWindow = 20 * time.Millisecond

// rate measures the completions per second over short windows.
type rate struct {
	start     time.Time
	n         int
	perSecond float64
	at        time.Time // when perSecond was measured
}

func (r *rate) add(now time.Time, n int) {
	if now.Sub(r.start) > 10*rateWindow {
		// This is the first completion, or the first after a pause: a window that
		// includes the pause would give a wrong rate.
		r.start, r.n = now, 0
	}
	r.n += n
	if d := now.Sub(r.start); d >= rateWindow {
		r.perSecond = float64(r.n) / d.Seconds()
		r.start, r.n, r.at = now, 0, now
	}
}

// ahead returns the number of tasks that will end within aheadFor at this rate.
func (r *rate) ahead(now time.Time) int {
	if now.Sub(r.at) > 10*rateWindow {
		return 0
	}
	return min(int(r.perSecond*aheadFor.Seconds()), maxAhead)
}
