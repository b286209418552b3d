package explore

import (
	"fmt"
	"slices"
)

// Fault is something that may happen a limited number of times on one path.
type Fault uint8

// Faults.
const (
	LostReply Fault = iota // a call is executed and its reply is lost
	LateReply              // the reply to a claim arrives after other calls
	Late                   // a call is executed at some later time, in addition to the repeated one
	Expiry                 // the lease of a live sidecar runs out: it is frozen or cut off
	Death                  // a sidecar dies and another one takes its place
	Leaving                // a sidecar ends its run, and another one takes its place
	Flush                  // FLUSHALL, and the producer starts over
	Step                   // the clock steps by 90 s, forward or back
	Loss                   // a worker dies: a release that costs an attempt
	Return                 // a task is returned without a cost
	Deferral               // a task fails and is delayed
	DeadEnd                // a task fails for good and becomes a dead letter
	Requeue                // an operator requeues a dead letter
	Drop                   // an operator deletes a dead letter
	Arrival                // a BLMOVE moves a record to an inbox
	faults
)

var faultNames = [faults]string{
	"lost replies", "late replies", "late calls", "expired leases", "deaths", "clean ends", "flushes", "clock steps",
	"lost workers", "returns", "deferrals", "dead letters", "requeues", "drops", "arrivals",
}

// String returns the name of a fault, in the plural.
func (f Fault) String() string { return faultNames[f] }

// Budget is how often each fault may happen on one path.
type Budget [faults]uint8

// Scope is the size of a search.
type Scope struct {
	Name     string
	Sidecars int
	Records  int
	Batch    int // the maximum number of records of a claim
	Attempts int // of a record
	Budget   Budget
	// Counted makes a member end by the looks of the ticks only, which count how long it has
	// been without a lease. Otherwise a sidecar finds any such member at any time, which is
	// more than the ticks allow, in fewer states.
	Counted bool
	// Most is the number of states at which the search gives up; 0 means no limit. It is for
	// scripts with a mistake, whose states may have no end.
	Most int
}

// one returns a scope with two sidecars in which each of the faults happens once.
func one(records int, list ...Fault) Scope {
	s := Scope{Sidecars: 2, Records: records, Batch: 2, Attempts: 2}
	for i, f := range list {
		s.Budget[f]++
		if i > 0 {
			s.Name += ", "
		}
		s.Name += f.String()
	}
	if len(list) == 0 {
		s.Name = "no faults"
	}
	s.Name = fmt.Sprintf("%d records: %s", records, s.Name)
	return s
}

// counted returns a scope in which the looks at the members count time. The clock does not
// step there: an outage that lasts as long as a step back looks like a moment.
func counted(records int, list ...Fault) Scope {
	s := one(records, list...)
	s.Counted, s.Name = true, s.Name+", looks counted"
	return s
}

// needs are the faults without which a fault cannot happen.
var needs = map[Fault][]Fault{Requeue: {DeadEnd}, Drop: {DeadEnd}}

// Scopes returns the scopes of a name. "quick" has each fault alone, with two records (one
// where that has many states), for the tests that always run. "small" has three records and
// each fault alone. "pairs" has two records and each pair of faults. "all" is both. Each has
// scopes, too, in which the looks at the members count time.
func Scopes(name string) ([]Scope, error) {
	var all []Scope
	records := 3
	switch name {
	case "quick":
		records = 2
	case "small", "pairs", "all":
	default:
		return nil, fmt.Errorf("no scope %q: there are quick, small, pairs and all", name)
	}
	if name != "pairs" {
		all = append(all, one(records))
	}
	for f := range faults {
		if name == "pairs" {
			break
		}
		n := records
		if name == "quick" && (f == Expiry || f == Death) {
			n = 1
		}
		all = append(all, one(n, append(slices.Clone(needs[f]), f)...))
	}
	if name != "pairs" {
		all = append(all, counted(1, Expiry))
	}
	if name == "quick" {
		return all, nil
	}
	if name != "pairs" {
		all = append(all, counted(1, Death))
	}
	if name == "small" {
		return all, nil
	}
	all = append(all, counted(2, Expiry))
	for _, f := range []Fault{LostReply, Late, Expiry, Death, Leaving, Flush} {
		all = append(all, counted(1, Expiry, f))
	}
	for f := range faults {
		for g := f; g < faults; g++ {
			all = append(all, one(2, slices.Concat(needs[f], needs[g], []Fault{f, g})...))
		}
	}
	return all, nil
}
