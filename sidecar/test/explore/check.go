package explore

import (
	"fmt"
	"slices"
	"strings"
)

// check judges a step. It returns what is wrong, or "", and stores in the world after the
// step which records have ended.
func (e *engine) check(before *world, was *view, a action, m *move) string {
	w, v := m.after, m.view
	if m.wrong != "" {
		return m.wrong
	}
	if v.foreign != "" {
		return fmt.Sprintf("%q in Redis is no record", v.foreign)
	}
	if a.kind == flush {
		was = v
	}
	for n := range e.scope.Records {
		if wrong := e.checkRecord(w, was, v, uint8(n), m); wrong != "" {
			return wrong
		}
	}
	if wrong := e.checkBarrier(w, v); wrong != "" {
		return wrong
	}
	if wrong := e.checkFenced(before, was, m); wrong != "" {
		return wrong
	}
	if m.script == "retire" {
		for _, run := range was.members {
			if !v.isMember(run) && was.isAlive(run) {
				return fmt.Sprintf("%s has ended %s, which has a lease", m.caller, run)
			}
		}
	}
	return e.checkMemory(w, v)
}

// checkRecord: a record is in exactly one place or has ended, and only a report or a drop
// ends it.
func (e *engine) checkRecord(w *world, was, v *view, n uint8, m *move) string {
	bit := uint16(1) << n
	places := v.places[n]
	switch {
	case places > 1:
		return fmt.Sprintf("%s is in %d places", task(n), places)
	case w.ended&bit != 0 && places > 0:
		return fmt.Sprintf("%s has ended and is in %s again", task(n), v.where[n].kind)
	case w.ended&bit != 0 || places == 1:
	case m.script == "report" && was.where[n] == place{"inflight", m.caller} && slices.ContainsFunc(m.ends, func(verdict string) bool {
		return verdict == "completed" || verdict == "duplicate" || verdict == "group-over"
	}):
		w.ended |= bit
	case m.script == "drop" && was.where[n].kind == "dead":
		w.ended |= bit
		w.dropped |= bit
	default:
		return fmt.Sprintf("%s is lost; it was in %s %s", task(n), was.where[n].kind, was.where[n].run)
	}
	if int(v.attempts[n]) > e.scope.Attempts && e.scope.Budget[Deferral] == 0 {
		return fmt.Sprintf("%s has used %d of %d attempts", task(n), v.attempts[n], e.scope.Attempts)
	}
	var costs bool
	switch m.script {
	case "release":
		costs = strings.Contains(m.text, " lost ")
	case "delay":
		costs = true
	case "reap":
		_, victim, _ := strings.Cut(m.text, "reap ")
		victim, _, _ = strings.Cut(victim, " ")
		costs = was.ended[victim] == "dead"
	}
	if v.attempts[n] > was.attempts[n] && !costs {
		return fmt.Sprintf("%s has lost an attempt by %s", task(n), m.script)
	}
	if v.attempts[n] > was.attempts[n]+1 {
		return fmt.Sprintf("%s has lost %d attempts at once", task(n), v.attempts[n]-was.attempts[n])
	}
	return ""
}

// checkBarrier: the counter is the number of distinct completions, which are those of the
// records that have ended or are dead letters.
func (e *engine) checkBarrier(w *world, v *view) string {
	want := w.ended
	for n := range e.scope.Records {
		if v.places[n] == 1 && v.where[n].kind == "dead" {
			want |= 1 << n
		}
	}
	size := 0
	for n := range e.scope.Records {
		size += int(want >> n & 1)
	}
	switch {
	case !v.expected:
		return "the barrier has vanished"
	case v.completions != want:
		return fmt.Sprintf("completions %03b, want %03b: the records that have ended", v.completions, want)
	case v.counted != want:
		return fmt.Sprintf("counted tasks %03b, want %03b", v.counted, want)
	case v.counter != size:
		return fmt.Sprintf("the counter is %d with %d completions", v.counter, size)
	case v.counter > e.scope.Records:
		return fmt.Sprintf("the counter is %d of %d", v.counter, e.scope.Records)
	}
	return ""
}

// checkFenced: the calls of a run that is no member and has no records left change nothing
// but the noted clock.
func (e *engine) checkFenced(before *world, was *view, m *move) string {
	switch m.script {
	case "claim", "report", "release", "delay", "tick", "reconcile":
	default:
		return ""
	}
	if was.isMember(m.caller) {
		return ""
	}
	if m.script != "claim" && m.script != "tick" && m.script != "reconcile" && len(was.inFlight[m.caller]) > 0 {
		return "" // its outcomes count until the records are requeued
	}
	if !slices.Equal(withoutClock(before), withoutClock(m.after)) {
		return fmt.Sprintf("%s is no member, and its %s has changed something", m.caller, m.script)
	}
	return ""
}

func withoutClock(w *world) []byte {
	return w.redis.Without(own+"clock", w.clock).Canonical(nil)
}

// checkMemory: what a live member has in memory is in its in-flight hash, unless the call
// that ends it has been sent. A delivery id names one record.
func (e *engine) checkMemory(w *world, v *view) string {
	for i := range w.sidecars {
		s := &w.sidecars[i]
		if s.run == "" || s.leaving || !v.isMember(s.run) {
			continue
		}
		for _, d := range slices.Concat(s.has, s.reply) {
			at := slices.IndexFunc(v.inFlight[s.run], func(f flying) bool { return f.seq == d.seq })
			switch {
			case at < 0 && d.doing == undecided:
				return fmt.Sprintf("%s runs %s and it is not in flight", s.run, task(d.record))
			case at >= 0 && v.inFlight[s.run][at].record != d.record:
				return fmt.Sprintf("%s names two records", id(s.run, d.seq))
			}
		}
	}
	return ""
}
