package linear

import (
	"fmt"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"
)

// groupRules are what is known about a group besides its history.
type groupRules struct {
	expected int
	members  int // tasks that Redis acknowledged
}

// groupState is a state of the automaton of one group's barrier.
type groupState struct {
	place     int
	counter   int
	done      set  // tasks with a completion, by their index
	uncounted int  // completions that the counter does not have yet
	revoked   int  // deleted completions that the counter still has
	published bool // its producer was told
	over      bool // its producer has given up
	forgot    bool
	looked    bool
}

// groupLeft is what Redis holds of a group at the end.
type groupLeft struct{ Counter, Completions int }

// step returns the state after an operation, or why it is not allowed.
func (r *groupRules) step(s groupState, o *operation) (groupState, string) {
	switch {
	case o.place > 0 && o.place != s.place+1:
		return s, "Redis executed another command before"
	case s.looked:
		return s, "it happened after the end"
	}
	if o.place > 0 {
		s.place = o.place
	}
	var reason string
	switch {
	case o.What == history.Forgot:
		s.forgot = true
	case o.What == final:
		s.looked = true
		reason = r.judge(&s, o.expected.(groupLeft))
	case s.forgot:
	case o.What == history.GivingUp:
		s.over, s.counter, s.done, s.uncounted = true, 0, set{}, 0
	case s.over:
		reason = "its producer had given up"
	default:
		reason = r.count(&s, o)
	}
	return s, reason
}

func (r *groupRules) count(s *groupState, o *operation) string {
	switch o.What {
	case history.Completed:
		switch {
		case o.number < 0:
			return o.Task + " is not of this group"
		case s.done.has(o.number):
			return o.Task + " was completed twice"
		}
		s.done.add(o.number)
		s.uncounted++
	case history.Revoked:
		if o.number < 0 || !s.done.has(o.number) {
			return "a completion of " + o.Task + " was deleted, and there was none"
		}
		s.done.remove(o.number)
		s.revoked++
	case history.Counted:
		if o.number > 0 && o.number != s.uncounted || o.number <= 0 && -o.number != s.revoked {
			return fmt.Sprintf("its counter went by %d, with %d new completions and %d deleted ones", o.number, s.uncounted, s.revoked)
		}
		if s.counter += o.number; s.counter > r.expected {
			return fmt.Sprintf("its counter is %d and %d are expected", s.counter, r.expected)
		}
		if o.number > 0 {
			s.uncounted = 0
		} else {
			s.revoked = 0
		}
	case history.Published:
		switch {
		case s.published:
			return "its end was published twice"
		case s.counter < r.expected:
			return fmt.Sprintf("its end was published when %d of %d tasks were done", s.counter, r.expected)
		}
		s.published = true
	}
	return ""
}

// judge compares the state with what Redis holds at the end.
func (r *groupRules) judge(s *groupState, left groupLeft) string {
	switch {
	case left.Counter > r.expected:
		return fmt.Sprintf("its counter is %d and %d are expected", left.Counter, r.expected)
	case left.Counter != left.Completions:
		return fmt.Sprintf("its counter is %d and Redis holds %d completions", left.Counter, left.Completions)
	case s.forgot:
	case left.Counter != s.counter || s.uncounted != 0 || s.revoked != 0:
		return fmt.Sprintf("its counter is %d, and was counted to %d", left.Counter, s.counter)
	case !s.over && r.members >= r.expected && !s.published:
		return "its producer was not told that it is done"
	}
	return ""
}

// setSize is how many tasks of one group the automaton tells apart.
const setSize = 1024

// set is a set of small numbers that can be compared.
type set [setSize / 64]uint64

func (s *set) has(n int) bool { return s[n/64]&(1<<(n%64)) != 0 }
func (s *set) add(n int)      { s[n/64] |= 1 << (n % 64) }
func (s *set) remove(n int)   { s[n/64] &^= 1 << (n % 64) }
