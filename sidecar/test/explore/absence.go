package explore

import (
	"fmt"
	"slices"
)

// The times of a tick, ms, as a Store sends them.
const (
	longestLook = 1500 // after a longer interval between two looks absence counts from zero
	deadAfter   = 1501 // of absence
	lookGrace   = 1000 // in addition, after a longer interval
)

// absences is for how long members have been without a lease, by the clock that no step
// touches. It is what the watch of tick.lua has to know.
type absences struct {
	since  []absence
	looked int64 // the last look at the members; 0 for none
	again  int64 // the look at which the count began again, after a long interval
}

type absence struct {
	run string
	at  int64
}

// update stores which members have no lease.
func (a *absences) update(steady int64, v *view) {
	a.since = slices.DeleteFunc(a.since, func(s absence) bool { return !v.isMember(s.run) || v.isAlive(s.run) })
	for _, run := range v.members {
		if !v.isAlive(run) && !slices.ContainsFunc(a.since, func(s absence) bool { return s.run == run }) {
			a.since = append(a.since, absence{run, steady})
		}
	}
}

// look judges the runs that a tick has found dead. Each has been without a lease for long
// enough, and what passed while no sidecar looked does not count: an outage ends all
// leases, and is no death.
func (a *absences) look(steady int64, dead []string) string {
	if a.looked == 0 || steady-a.looked > longestLook {
		a.again = steady
	}
	a.looked = steady
	for _, run := range dead {
		at := slices.IndexFunc(a.since, func(s absence) bool { return s.run == run })
		switch {
		case at < 0:
			return fmt.Sprintf("%s is taken for dead and has a lease, or is no member", run)
		case steady-a.since[at].at < deadAfter:
			return fmt.Sprintf("%s is taken for dead %d ms after the end of its lease", run, steady-a.since[at].at)
		case a.since[at].at < a.again && steady-a.again < deadAfter+lookGrace:
			return fmt.Sprintf("%s is taken for dead %d ms after an interval without looks", run, steady-a.again)
		}
	}
	return ""
}
