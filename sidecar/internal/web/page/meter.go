package page

import (
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

// window is what a rate is taken over. The others of the fleet say what they did
// every two seconds or so; over less it would jump.
const window = 6 * time.Second

// meter makes rates of what the runs say that they have done since they began.
type meter struct {
	last    map[string]total // by run
	at      time.Time        // of last
	sum     total
	samples []sample // of sum, the last of the window
}

type total struct{ done, failed int64 }

type sample struct {
	at  time.Time
	sum total
}

// reset begins anew after a gap.
func (m *meter) reset() { *m = meter{} }

// add takes in what the runs say now and gives the rates, in tasks a second, once
// there are any.
func (m *meter) add(at time.Time, runs []fleet.Run) (done, failed *float64) {
	if at.Sub(m.at) > window {
		m.reset()
	}
	seen := make(map[string]total, len(runs))
	for _, run := range runs {
		t := total{run.Completed, run.Failed}
		seen[run.ID] = t
		before, known := m.last[run.ID]
		// A run that began meanwhile counts from nothing, one that was only not
		// seen from here on.
		if !known && (m.at.IsZero() || run.Since.Before(m.at)) {
			continue
		}
		m.sum.done += max(0, t.done-before.done)
		m.sum.failed += max(0, t.failed-before.failed)
	}
	m.last, m.at = seen, at
	m.samples = append(m.samples, sample{at, m.sum})
	for len(m.samples) > 2 && at.Sub(m.samples[1].at) >= window {
		m.samples = m.samples[1:]
	}
	first := m.samples[0]
	span := at.Sub(first.at).Seconds()
	if span < 0.5 {
		return nil, nil
	}
	d, f := float64(m.sum.done-first.sum.done)/span, float64(m.sum.failed-first.sum.failed)/span
	return &d, &f
}
