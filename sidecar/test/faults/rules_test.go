//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// The bounds that docs/guarantees.md promises.
const (
	// barrierWait is how long Graflow's producer waits for a group, fixed.
	barrierWait = 30 * time.Second
	// sidecarRecovery and childRecovery are how soon after a death, of a sidecar or of a
	// worker, the recovery has begun: the first of the tasks in flight runs again.
	sidecarRecovery = 10 * time.Second
	childRecovery   = time.Second
	// outageRecovery is how soon after an outage of Redis work goes on.
	outageRecovery = 3 * time.Second
)

// checkTask checks that every acknowledged push ends in exactly one of completed,
// completed-no-group, group-over, duplicate and dead, that no task is completed before its
// worker has ended it, and that only a fault makes a task run once more.
func (w *world) checkTask(p *pushedTask, f *fate, left final, deaths int) {
	dead := 0
	for _, l := range left.letters {
		if l.task == p.id {
			dead++
		}
	}
	g := w.groups[p.group]
	over := p.group != "" && (g == nil || g.over)
	_, result := left.results[p.id]
	c, told := left.completions[p.group][p.id]
	seen := len(f.completed)
	if w.obs.missed() { // the history has gaps: count what Redis holds
		seen = min(seen, 1)
		if told {
			seen = 1
		}
	}
	switch {
	case p.pushes == 0 || over:
		// Not acknowledged, or no producer waits for its group: every end is right.
	case p.group == "":
		if ends := btoi(result) + dead; ends != 1 && p.do != "fail" {
			w.violation("%s without a group ended %d times (result %v, dead letters %d)", p.id, ends, result, dead)
		}
		if f.values > 1+w.again {
			w.violation("%s: its result was written %d times", p.id, f.values)
		}
	default:
		if !told {
			w.violation("%s of %s is lost: no completion (%d starts, %d ends, %d dead letters)", p.id, p.group, len(f.starts), len(f.ends), dead)
		}
		if seen > 1+w.again {
			w.violation("%s of %s was completed %d times", p.id, p.group, seen)
		}
		if dead > 1 || (dead == 1 && c.Success) {
			w.violation("%s of %s has %d dead letters and success %v", p.id, p.group, dead, c.Success)
		}
		if told && !c.Success && dead == 0 && !mayFail(p.do) {
			w.violation("%s of %s failed: %s", p.id, p.group, *c.Error)
		}
	}
	for _, e := range f.completed {
		w.checkOrder(p, f, e)
	}
	touched := deaths + len(f.lost) + btoi(p.do == "retry")
	switch p.do {
	case "die":
		touched += len(f.starts) // each start kills its worker, which is a fault
	case "retry always":
		touched += 2 // the retries: it has three attempts
	}
	if most := max(p.pushes, btoi(p.unsure)) + touched + w.again; len(f.starts) > most {
		w.violation("%s ran %d times, and only %d faults touched it", p.id, len(f.starts), touched+w.again)
	}
	if dead == 1 && p.do == "" {
		// A killed worker may also have had a task that it had not begun.
		if n := touched + w.logged(p.id, "task lost with its worker"); n < 3 {
			w.violation("%s is a dead letter after %d faults that touched it", p.id, n)
		}
	}
}

// logged counts the lines with a message about a task in the logs of all sidecars.
func (w *world) logged(task, message string) (n int) {
	for _, s := range w.sidecars {
		for line := range strings.Lines(s.text()) {
			n += btoi(strings.Contains(line, message) && strings.Contains(line, `"`+task+`"`))
		}
	}
	return n
}

func mayFail(do string) bool {
	return do == "fail" || do == "die" || do == "die with sidecar" || do == "hang" || do == "retry always" || do == "too large" || do == "value too large" || forms[do].words != ""
}

// checkOrder checks that a success was not reported before a worker had ended the task.
func (w *world) checkOrder(p *pushedTask, f *fate, e event) {
	var c completion
	if err := json.Unmarshal([]byte(e.Text), &c); err != nil {
		w.violation("completion of %s: %v", p.id, err)
		return
	}
	if !c.Success {
		return
	}
	for _, end := range f.ends {
		if !end.time().After(e.time().Add(time.Millisecond)) {
			return
		}
	}
	w.violation("%s was completed at %v, before its worker had ended it", p.id, e.time())
}

// checkGroup checks that the barrier's counter is the number of distinct completions and at
// most the expected number, and that the group is done while Graflow waits.
func (w *world) checkGroup(g *pushedGroup, s *story, left final, touched map[string]int) {
	if g.over {
		if left.counters[g.id] != 0 || len(left.completions[g.id]) != 0 {
			w.violation("%s is over and was counted", g.id)
		}
		return
	}
	count, told := left.counters[g.id], len(left.completions[g.id])
	if count != told || count > g.expected {
		w.violation("%s: counter %d, distinct completions %d, expected %d", g.id, count, told, g.expected)
	}
	if n := s.counted[g.id]; n != count && !w.obs.missed() {
		w.violation("%s was counted %d times, its counter is %d", g.id, n, count)
	}
	most, all := 0, 0
	for id, p := range w.tasks {
		if p.group == g.id && p.pushes > 0 {
			all++
			most = max(most, touched[id])
		}
	}
	done, ok := s.published[g.id]
	switch {
	case w.obs.missed() || all < g.expected:
	case !ok:
		w.violation("%s: its producer was not told that it is done", g.id)
	case machine.Between(g.at, done) > barrierWait+w.delay && most < 3:
		w.violation("%s took %v, and no task of it lost more than %d sidecars", g.id, done.Sub(g.at), most)
	}
}

// drainObserver waits until the observer has seen all commands that Redis has executed.
func (w *world) drainObserver() {
	w.t.Helper()
	select {
	case <-w.obs.done:
		return
	default:
	}
	ctx, cancel := bounded()
	defer cancel()
	mark := fmt.Sprintf("mark-%d", time.Now().UnixNano())
	seen := w.obs.expect(mark)
	wait.Within(w.t, 10*time.Second, "the observer's sight of the last command", func() bool {
		_ = w.c.Echo(ctx, mark).Err() // it may be connecting again
		select {
		case <-seen:
			return true
		default:
			return false
		}
	})
}

// awaitTheGone waits until a living sidecar has removed the keys of dead runs. Without a
// living sidecar it returns at once.
func (w *world) awaitTheGone() {
	if len(w.alive()) == 0 {
		return
	}
	const within = 15 * time.Second
	began := time.Now()
	for {
		gone := w.strangers()
		if len(gone) == 0 {
			return
		}
		if machine.Since(began) > within {
			w.violation("%v after the last death these keys are left: %v", within, gone)
			return
		}
		wait.Pass(50 * time.Millisecond)
	}
}

// strangers returns the keys of runs whose sidecar is not running.
func (w *world) strangers() (found []string) {
	ctx, cancel := bounded()
	defer cancel()
	keys, err := w.c.Keys(ctx, w.key("sidecar", "*")).Result()
	if err != nil {
		return []string{err.Error()}
	}
	members := w.c.SMembers(ctx, w.key("sidecar", "runs")).Val()
	for _, m := range members {
		keys = append(keys, w.key("sidecar", "runs", m))
	}
	alive := w.alive()
next:
	for _, key := range keys {
		kind, rest, _ := strings.Cut(strings.TrimPrefix(key, w.key("sidecar")+":"), ":")
		switch kind {
		case "alive", "inbox", "inflight", "meta", "runs":
		default:
			continue
		}
		if rest == "" {
			continue
		}
		for _, s := range alive {
			if strings.HasPrefix(rest, s.id+"-") {
				continue next
			}
		}
		found = append(found, key)
	}
	return found
}

// nothingLeft checks that neither a key of a run nor a process outlives the sidecars, and
// that no sidecar panicked, had a data race or logged a bug.
func (w *world) nothingLeft() {
	if keys := w.strangers(); len(keys) > 0 {
		w.violation("keys of runs that are over: %v", keys)
	}
	var pids []string
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); wait.Pass(20 * time.Millisecond) {
		if pids = proc.Marked(w.t, markVariable+"="+w.prefix); len(pids) == 0 {
			break
		}
	}
	if len(pids) > 0 {
		w.violation("processes left over: %v", pids)
	}
	for _, s := range w.sidecars {
		for line := range strings.Lines(s.text()) {
			if strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "goroutine ") || strings.Contains(line, "DATA RACE") || strings.Contains(line, "this is a bug") {
				w.violation("%s broke: %s", s.id, line)
			}
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
