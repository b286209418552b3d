//go:build faults

package faults

import (
	"slices"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
)

// recovery checks for each death that the first of the tasks it touched was recovered in
// time: it is back on the queue, where a sidecar with a free slot takes it, or a worker has
// it. It returns how long the slowest recovery took until a task ran again.
func (w *world) recovery(s *history.Story) (worst time.Duration) {
	check := func(what string, at time.Time, tasks []string, bound, again time.Duration) {
		var back, runs time.Duration
		for _, id := range tasks {
			f := s.Of(id)
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
	for id, f := range s.Tasks {
		if p := w.tasks[id]; p != nil && p.Pushes > 1 {
			continue // a start does not say which of the copies ran
		}
		for _, l := range f.Lost {
			bound, again := childRecovery, childRecovery
			if w.orphaned(l, w.back(id, f, l.At)) {
				bound, again = sidecarRecovery, startsOver
			}
			check("worker "+l.Start.Delivery, l.At, []string{id}, bound+w.delay, again)
		}
	}
	return max(worst, w.outage)
}

// taken returns how long after at the task was first in hand again: a worker started it, or
// a sidecar died with it in flight. It returns 0 if neither happened.
func (w *world) taken(id string, f *history.Fate, at time.Time) (first time.Duration) {
	for _, e := range f.Starts {
		first = sooner(first, e.Time().Sub(at))
	}
	for _, h := range w.hits {
		if slices.Contains(h.tasks, id) {
			first = sooner(first, h.at.Sub(at))
		}
	}
	return first
}

// back returns how long after at the task was on the queue again, or taken.
func (w *world) back(id string, f *history.Fate, at time.Time) time.Duration {
	first := w.taken(id, f, at)
	for _, e := range f.Returns {
		first = sooner(first, e.Time().Sub(at))
	}
	return first
}

// sooner returns the shorter of two durations; a duration of 0 or less counts as none.
func sooner(a, b time.Duration) time.Duration {
	if a <= 0 || b > 0 && b < a {
		return max(b, 0)
	}
	return a
}

// orphaned reports whether the sidecar of a lost worker died before it could recover the
// worker's task.
func (w *world) orphaned(l history.Loss, within time.Duration) bool {
	for _, h := range w.hits {
		if d := h.at.Sub(l.At); h.pid == l.Start.Parent && d > -time.Second && d <= within {
			return true
		}
	}
	return false
}
