package history

import (
	"encoding/json"
	"time"
)

// BarrierWait is how long Graflow's producer waits for a group, fixed.
const BarrierWait = 30 * time.Second

// Task is what a producer knows about a task.
type Task struct {
	ID     string
	Group  string
	Do     string // what its worker does, in the words of the suite; "" is nothing special
	Pushes int    // acknowledged ones
	Unsure bool   // a push was not acknowledged, but may have arrived
}

// Group is what a producer knows about a group.
type Group struct {
	ID       string
	Expected int
	At       time.Time // when it was dispatched
	Over     bool      // the producer has given up and cleaned up
}

// Judge checks a history and what Redis holds at the end.
type Judge struct {
	Tasks  map[string]*Task
	Groups map[string]*Group
	// Again is how often a task may run again because Redis lost its report.
	Again int
	// Delay is added to the promised times.
	Delay time.Duration
	// Gaps tells that the history has gaps: what Redis holds is counted in its place.
	Gaps bool
	// MayFail tells whether a failure of a task is right, and Silent whether its end leaves
	// nothing in Redis without a group.
	MayFail, Silent func(t *Task) bool
	// Repeats returns how often a task may run again because of what it does.
	Repeats func(t *Task, f *Fate) int
	// LostUnread returns how often a worker was lost with a task that it had not begun.
	LostUnread func(task string) int
	// Elapsed is the time between two events that counts for a bound.
	Elapsed func(from, to time.Time) time.Duration
	// Violation is told of each promise that was broken.
	Violation func(format string, args ...any)
}

// CheckTask checks that every acknowledged push ends in exactly one of completed,
// completed-no-group, group-over, duplicate and dead, that no task is completed before its
// worker has ended it, and that only a fault makes a task run once more. deaths is the
// number of deaths of sidecars that touched the task.
func (j *Judge) CheckTask(p *Task, f *Fate, left Final, deaths int) {
	dead := 0
	for _, l := range left.Letters {
		if l.Task == p.ID {
			dead++
		}
	}
	g := j.Groups[p.Group]
	over := p.Group != "" && (g == nil || g.Over)
	_, result := left.Results[p.ID]
	c, told := left.Completions[p.Group][p.ID]
	seen := len(f.Completed)
	if j.Gaps {
		seen = min(seen, 1)
		if told {
			seen = 1
		}
	}
	switch {
	case p.Pushes == 0 || over:
		// Not acknowledged, or no producer waits for its group: every end is right.
	case p.Group == "":
		if ends := btoi(result) + dead; ends != 1 && !j.Silent(p) {
			j.Violation("%s without a group ended %d times (result %v, dead letters %d)", p.ID, ends, result, dead)
		}
		if f.Values > 1+j.Again {
			j.Violation("%s: its result was written %d times", p.ID, f.Values)
		}
	default:
		if !told {
			j.Violation("%s of %s is lost: no completion (%d starts, %d ends, %d dead letters)", p.ID, p.Group, len(f.Starts), len(f.Ends), dead)
		}
		if seen > 1+j.Again {
			j.Violation("%s of %s was completed %d times", p.ID, p.Group, seen)
		}
		if dead > max(p.Pushes, 1) || (dead > 0 && c.Success && p.Pushes < 2) {
			j.Violation("%s of %s has %d dead letters and success %v", p.ID, p.Group, dead, c.Success)
		}
		if told && !c.Success && dead == 0 && !j.MayFail(p) {
			j.Violation("%s of %s failed: %s", p.ID, p.Group, *c.Error)
		}
	}
	for _, e := range f.Completed {
		j.checkOrder(p, f, e)
	}
	touched := deaths + len(f.Lost) + j.Repeats(p, f)
	if most := max(p.Pushes, btoi(p.Unsure)) + touched + j.Again; len(f.Starts) > most {
		j.Violation("%s ran %d times, and only %d faults touched it", p.ID, len(f.Starts), touched+j.Again)
	}
	if dead == 1 && p.Do == "" {
		// A killed worker may also have had a task that it had not begun.
		if n := touched + j.LostUnread(p.ID); n < 3 {
			j.Violation("%s is a dead letter after %d faults that touched it", p.ID, n)
		}
	}
}

// checkOrder checks that a success was not reported before a worker had ended the task.
func (j *Judge) checkOrder(p *Task, f *Fate, e Event) {
	var c Completion
	if err := json.Unmarshal([]byte(e.Text), &c); err != nil {
		j.Violation("completion of %s: %v", p.ID, err)
		return
	}
	if !c.Success {
		return
	}
	for _, end := range f.Ends {
		if !end.Time().After(e.Time().Add(time.Millisecond)) {
			return
		}
	}
	j.Violation("%s was completed at %v, before its worker had ended it", p.ID, e.Time())
}

// CheckGroup checks that the barrier's counter is the number of distinct completions and at
// most the expected number, and that the group is done while Graflow waits. touched is the
// number of deaths of sidecars that touched each task.
func (j *Judge) CheckGroup(g *Group, s *Story, left Final, touched map[string]int) {
	if g.Over {
		if left.Counters[g.ID] != 0 || len(left.Completions[g.ID]) != 0 {
			j.Violation("%s is over and was counted", g.ID)
		}
		return
	}
	count, told := left.Counters[g.ID], len(left.Completions[g.ID])
	if count != told || count > g.Expected {
		j.Violation("%s: counter %d, distinct completions %d, expected %d", g.ID, count, told, g.Expected)
	}
	if n := s.Counted[g.ID]; n != count && !j.Gaps {
		j.Violation("%s was counted %d times, its counter is %d", g.ID, n, count)
	}
	most, all := 0, 0
	for id, p := range j.Tasks {
		if p.Group == g.ID && p.Pushes > 0 {
			all++
			most = max(most, touched[id])
		}
	}
	done, ok := s.Published[g.ID]
	switch {
	case j.Gaps || all < g.Expected:
	case !ok:
		j.Violation("%s: its producer was not told that it is done", g.ID)
	case j.Elapsed(g.At, done) > BarrierWait+j.Delay && most < 3:
		j.Violation("%s took %v, and no task of it lost more than %d sidecars", g.ID, done.Sub(g.At), most)
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
