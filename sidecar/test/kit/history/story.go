package history

import (
	"slices"
	"strconv"
	"time"
)

// Story is a whole history, sorted by task and by group.
type Story struct {
	Tasks     map[string]*Fate
	Counted   map[string]int       // by group
	Published map[string]time.Time // by group
}

// Fate is what a history says about one task.
type Fate struct {
	Starts, Ends []Event
	Returns      []Event
	Completed    []Event
	Values       int
	Lost         []Loss
}

// Loss is the kill of a worker process and the last task that it began.
type Loss struct {
	At    time.Time
	Start Event
}

// Of returns the fate of a task.
func (s *Story) Of(task string) *Fate {
	f := s.Tasks[task]
	if f == nil {
		f = &Fate{}
		s.Tasks[task] = f
	}
	return f
}

// Tell sorts a history. It orders the events by their time.
func Tell(events []Event) *Story {
	s := &Story{Tasks: map[string]*Fate{}, Counted: map[string]int{}, Published: map[string]time.Time{}}
	began := map[int][]Event{} // the starts of each worker process
	slices.SortStableFunc(events, func(a, b Event) int { return int(a.At - b.At) })
	for _, e := range events {
		switch e.What {
		case Started:
			s.Of(e.Task).Starts = append(s.Of(e.Task).Starts, e)
			began[e.Pid] = append(began[e.Pid], e)
		case Ended:
			s.Of(e.Task).Ends = append(s.Of(e.Task).Ends, e)
		case Returned:
			s.Of(e.Task).Returns = append(s.Of(e.Task).Returns, e)
		case Completed:
			s.Of(e.Task).Completed = append(s.Of(e.Task).Completed, e)
		case Value:
			s.Of(e.Task).Values++
		case Counted:
			n, _ := strconv.Atoi(e.Text)
			s.Counted[e.Group] += n
		case Published:
			if s.Published[e.Group].IsZero() {
				s.Published[e.Group] = e.Time()
			}
		}
	}
	for _, e := range events {
		if e.What == Kills {
			s.lose(e, began[e.Pid])
		}
	}
	return s
}

// lose counts the kill of a worker as a loss of the last task that it began. The kill is in
// the history before it happens, so the worker may begin a task up to a moment later.
func (s *Story) lose(kill Event, starts []Event) {
	const moment = time.Second
	for _, start := range slices.Backward(starts) {
		if start.Time().After(kill.Time().Add(moment)) {
			continue // a later process with the same id
		}
		at := kill.Time()
		if start.Time().After(at) {
			at = start.Time()
		}
		s.Of(start.Task).Lost = append(s.Of(start.Task).Lost, Loss{at, start})
		return
	}
}
