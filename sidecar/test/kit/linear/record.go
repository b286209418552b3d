package linear

import (
	"fmt"
	"math/bits"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"
)

// mostDeliveries is how many deliveries of one record the automaton bears.
const mostDeliveries = 64

// recordRules are what is known about a task besides its history.
type recordRules struct {
	grouped   bool
	over      bool // no producer waits for its group (any more)
	silent    bool // its end may leave nothing in Redis without a group
	mayRepeat bool // it asks for another run itself
	unpushed  bool // no producer has pushed it, but a worker
}

// recordState is a state of the automaton of one task. A record that was pushed twice has two
// copies. The masks have a bit for each delivery.
type recordState struct {
	place    int    // operations of Redis so far
	before   string // the last of them
	beforeOf uint64 // and its delivery

	copies   int // that have not ended
	claimed  uint64
	inFlight uint64
	started  uint64
	finished uint64
	anyEnded bool   // an end was of one of several deliveries
	letters  uint64 // dead letters
	buried   uint64 // dead letters of deliveries that are still in flight
	retired  uint64 // deliveries of runs that are over
	killed   uint64 // deliveries whose worker was killed

	told     bool // there is a completion
	success  bool // it is one of success
	credit   bool // the completion is of a delivery that is still in flight
	values   int  // results of deliveries that are still in flight
	recorded bool // a result was written
	forgot   bool // Redis forgot: what it executes is not checked any more
	looked   bool // the final operation was placed
}

// recordLeft is what Redis holds of a task at the end.
type recordLeft struct {
	Told, Success, Result bool
	Letters               int
	Must                  bool // the task has to have ended
}

// step returns the state after an operation, or why it is not allowed.
func (r *recordRules) step(s recordState, o *operation) (recordState, string) {
	if o.place > 0 && o.place != s.place+1 {
		return s, "Redis executed another command before"
	}
	if s.looked && !(o.What == history.Pushing && o.lost) {
		return s, "it happened after the end"
	}
	var reason string
	switch o.What {
	case history.Pushing:
		if !s.looked { // otherwise it was never applied
			s.copies++
		}
	case history.Started:
		reason = s.start(o.delivery)
	case history.Ended:
		reason = s.end(o.delivery)
	case history.Kills, history.Exits:
		s.killed |= o.delivery
	case history.Forgot:
		s.forgot = true
	case final:
		s.looked = true
		reason = r.judge(&s, o.expected.(recordLeft))
	default:
		if s.forgot {
			reason = s.executeBlindly(o)
		} else {
			reason = r.execute(&s, o)
		}
		s.place, s.before, s.beforeOf = o.place, o.What, o.delivery
	}
	return s, reason
}

// start is a worker that begins a delivery. Each delivery runs once, while it is in flight.
// A run that was given up may not know that yet. The delivery is 0 where it may be one of
// several.
func (s *recordState) start(d uint64) string {
	switch {
	case d == 0:
		return ""
	case s.started&d != 0:
		return "it ran twice in one delivery"
	case s.forgot:
	case s.claimed&d == 0:
		return "it ran without having been claimed"
	case s.inFlight&d == 0 && s.retired&d == 0:
		return "it ran after its delivery was over"
	}
	s.started |= d
	return ""
}

func (s *recordState) end(d uint64) string {
	switch {
	case d == 0:
		s.anyEnded = true
		return ""
	case s.started&d == 0:
		return "its worker ended it and had not begun it"
	case s.finished&d != 0:
		return "its worker ended it twice"
	}
	s.finished |= d
	return ""
}

// mayHaveFinished returns the deliveries whose worker may have ended them.
func (s *recordState) mayHaveFinished() uint64 {
	if s.anyEnded {
		return ^uint64(0)
	}
	return s.finished
}

// execute is a command of Redis.
func (r *recordRules) execute(s *recordState, o *operation) string {
	d := o.delivery
	fresh := r.unpushed && s.copies == 0 && s.claimed == 0 // it may be a worker's request
	if s.before == history.Added && s.letters != 0 && o.What != history.Unburied {
		return "it was requeued, and its dead letter stayed"
	}
	if s.before == history.Claimed && bits.OnesCount64(s.inFlight) > s.copies && (o.What != history.Removed || d == s.beforeOf) {
		return "one copy is in flight twice"
	}
	switch o.What {
	case history.Added:
		if !fresh && s.letters == 0 {
			return "it was added again, and no dead letter of it was requeued"
		}
		s.copies++
	case history.Returned:
		// A worker adds records to the right end always, from which they may be claimed.
		if fresh {
			s.copies++
		}
	case history.Retired:
		s.retired |= d
	case history.Claimed:
		// The reaper of a run enters a record anew before it removes the old entry.
		switch {
		case s.claimed&d != 0:
			return "two claims have one delivery id"
		case bits.OnesCount64(s.inFlight) == s.copies && s.inFlight&s.retired == 0:
			return "it was claimed while all its copies were in flight or had ended"
		}
		s.claimed |= d
		s.inFlight |= d
	case history.Completed:
		switch {
		case s.told:
			return "it was completed twice"
		case s.inFlight == 0:
			return "it was completed, and was not in flight"
		case o.success && s.inFlight&s.mayHaveFinished() == 0:
			return "it was completed before its worker had ended it"
		}
		s.told, s.success, s.credit = true, o.success, true
	case history.Value:
		if bits.OnesCount64(s.inFlight&s.mayHaveFinished()) <= s.values {
			return "its result was written, and no worker had ended it"
		}
		s.values++
		s.recorded = true
	case history.Revoked:
		s.told = false
	case history.Buried:
		switch {
		case s.inFlight&d == 0:
			return "it became a dead letter, and was not in flight"
		case s.letters&d != 0:
			return "it became a dead letter twice"
		}
		s.letters |= d
		s.buried |= d
	case history.Unburied:
		s.letters &^= d
	case history.Removed:
		return r.remove(s, d)
	}
	return ""
}

// remove is a delivery that leaves what is in flight: it has ended in one of the five ways of
// docs/guarantees.md, or its record is in another place, where the command before has put it.
func (r *recordRules) remove(s *recordState, d uint64) string {
	if s.inFlight&d == 0 {
		return "a delivery was removed that was not in flight"
	}
	s.inFlight &^= d
	moved := s.before == history.Returned || s.before == history.Delayed || s.before == history.Claimed && s.beforeOf != d
	switch {
	case moved:
		if s.started&d != 0 && (s.retired|s.killed)&d == 0 && !r.mayRepeat {
			return "it runs again, and nothing ended its worker or its run"
		}
		return ""
	case s.buried&d != 0:
		s.buried &^= d
		s.credit = false
	case s.credit || s.values > 0:
		s.credit = false
		s.values = max(s.values-1, 0)
	case r.grouped && (r.over || s.told):
		// group-over, duplicate
	case !r.grouped && (r.silent || s.recorded):
	default:
		return "it is lost: it left what is in flight and ended nowhere"
	}
	s.copies--
	return ""
}

// executeBlindly is a command of a Redis that forgot, or of one that was not always observed.
func (s *recordState) executeBlindly(o *operation) string {
	switch o.What {
	case history.Claimed:
		s.claimed |= o.delivery
	case history.Completed:
		if o.success && s.mayHaveFinished() == 0 {
			return "it was completed before its worker had ended it"
		}
	case history.Retired:
		s.retired |= o.delivery
	}
	return ""
}

// judge compares the state with what Redis holds at the end.
func (r *recordRules) judge(s *recordState, left recordLeft) string {
	switch {
	case s.forgot:
		if left.Must && !left.Told && !left.Result && left.Letters == 0 && (r.grouped && !r.over || !r.grouped && !r.silent) {
			return "it is lost: Redis holds no end of it"
		}
	case s.copies != 0 || s.inFlight != 0:
		return fmt.Sprintf("%d copies have not ended, %d deliveries are in flight", s.copies, bits.OnesCount64(s.inFlight))
	case bits.OnesCount64(s.letters) != left.Letters:
		return fmt.Sprintf("%d dead letters were written and Redis holds %d", bits.OnesCount64(s.letters), left.Letters)
	case r.grouped && !r.over && (s.told != left.Told || s.told && s.success != left.Success):
		return "Redis holds another completion than was written"
	case s.recorded && !left.Result:
		return "its result is lost"
	}
	return ""
}
