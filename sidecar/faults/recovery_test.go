//go:build faults

package faults

import (
	"slices"
	"time"
)

// recovery measures how long the first of the tasks that a death touched took
// until it was on its way again, and returns the worst.
func (w *world) recovery(s *story) (worst time.Duration) {
	check := func(what string, at time.Time, tasks []string, bound time.Duration) {
		var first time.Duration
		for _, id := range tasks {
			if d := w.taken(id, s.of(id), at); d > 0 && (first == 0 || d < first) {
				first = d
			}
		}
		worst = max(worst, first)
		if first > bound {
			w.violation("after the death of %s with %v the recovery began after %v", what, tasks, first)
		}
	}
	for _, h := range w.hits {
		check(h.who, h.at, h.tasks, sidecarRecovery+w.delay)
	}
	for id, f := range s.tasks {
		for _, l := range f.lost {
			bound := childRecovery
			if w.orphaned(l, w.taken(id, f, l.at)) {
				bound = sidecarRecovery
			}
			check("worker "+l.start.Delivery, l.at, []string{id}, bound+w.delay)
		}
	}
	return max(worst, w.outage)
}

// taken is how long after at somebody had the task again: ran it, or died with
// it in hand; 0 if nobody ever did.
func (w *world) taken(id string, f *fate, at time.Time) (first time.Duration) {
	note := func(t time.Time) {
		if d := t.Sub(at); d > 0 && (first == 0 || d < first) {
			first = d
		}
	}
	for _, e := range f.starts {
		note(e.time())
	}
	for _, h := range w.hits {
		if slices.Contains(h.tasks, id) {
			note(h.at)
		}
	}
	return first
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
