package dispatch

import "time"

// aheadFor bounds how early a record is claimed before a slot is free: a task
// in our hands is one that no idle sidecar elsewhere can start. It is to start
// within 10 ms; rates that were measured over short windows are off by a half at
// times, so that 99 of 100 do (bench/RESULTS.md, claimed and not started).
const aheadFor = 6 * time.Millisecond

// maxAhead bounds memory where tasks take no time at all.
const maxAhead = 1024

// rateWindow is how long completions are counted before a new rate is believed.
const rateWindow = 20 * time.Millisecond

// rate measures completions a second over short windows.
type rate struct {
	start     time.Time
	n         int
	perSecond float64
	at        time.Time // when perSecond was measured
}

func (r *rate) add(now time.Time, n int) {
	if r.start.IsZero() || now.Sub(r.start) > 10*rateWindow {
		// The first completion, or the first after a silence: a window that
		// holds the silence would say little.
		r.start, r.n = now, 0
	}
	r.n += n
	if d := now.Sub(r.start); d >= rateWindow {
		r.perSecond = float64(r.n) / d.Seconds()
		r.start, r.n, r.at = now, 0, now
	}
}

// ahead is how many tasks will have ended within aheadFor, if the rate holds.
func (r *rate) ahead(now time.Time) int {
	if r.perSecond == 0 || now.Sub(r.at) > 10*rateWindow {
		return 0
	}
	return min(int(r.perSecond*aheadFor.Seconds()), maxAhead)
}
