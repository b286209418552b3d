//go:build faults

package faults

import (
	"slices"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
)

// recovery checks that the first of the tasks that a death touched was on its
// way again in time: back on the queue, where whoever has a free slot takes it,
// or with somebody. It returns how long the slowest took until it ran again.
func (w *world) recovery(s *story) (worst time.Duration) {
	check := func(what string, at time.Time, tasks []string, bound, again time.Duration) {
		var back, runs time.Duration
		for _, id := range tasks {
			f := s.of(id)
			runs = sooner(runs, w.taken(id, f, at))
			back = sooner(back, w.back(id, f, at))
		}
		worst = max(worst, runs)
		if machine.Between(at, at.Add(back)) > bound && at.Add(back).After(w.stalls.excuse(at, at.Add(bound), again)) {
			w.violation("after the death of %s with %v the recovery began after %v", what, tasks, back)
		}
	}
	for _, h := range w.hits {
		check(h.who, h.at, h.tasks, sidecarRecovery+w.delay, startsOver)
	}
	for id, f := range s.tasks {
		if p := w.tasks[id]; p != nil && p.pushes > 1 {
			continue // whose copy ran again cannot be told
		}
		for _, l := range f.lost {
			bound, again := childRecovery, childRecovery
			if w.orphaned(l, w.back(id, f, l.at)) {
				bound, again = sidecarRecovery, startsOver
			}
			check("worker "+l.start.Delivery, l.at, []string{id}, bound+w.delay, again)
		}
	}
	return max(worst, w.outage)
}

// taken is how long after at somebody had the task again: ran it, or died with
// it in hand; 0 if nobody ever did.
func (w *world) taken(id string, f *fate, at time.Time) (first time.Duration) {
	for _, e := range f.starts {
		first = sooner(first, e.time().Sub(at))
	}
	for _, h := range w.hits {
		if slices.Contains(h.tasks, id) {
			first = sooner(first, h.at.Sub(at))
		}
	}
	return first
}

// back is how long after at the task was on the queue again, or taken.
func (w *world) back(id string, f *fate, at time.Time) time.Duration {
	first := w.taken(id, f, at)
	for _, e := range f.returns {
		first = sooner(first, e.time().Sub(at))
	}
	return first
}

// sooner is the shorter one of two times that are both more than 0, or the one
// that is.
func sooner(a, b time.Duration) time.Duration {
	if a <= 0 || b > 0 && b < a {
		return max(b, 0)
	}
	return a
}

// orphaned reports whether the worker's sidecar died before it could recover.
func (w *world) orphaned(l loss, within time.Duration) bool {
	for _, h := range w.hits {
		if d := h.at.Sub(l.at); h.pid == l.start.Parent && d > -time.Second && d <= within {
			return true
		}
	}
	return false
}
