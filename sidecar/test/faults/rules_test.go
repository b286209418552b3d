//go:build faults

package faults

import (
	"fmt"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// The bounds that docs/guarantees.md promises.
const (
	// sidecarRecovery and childRecovery are how soon after a death, of a sidecar or of a
	// worker, the recovery has begun: the first of the tasks in flight runs again.
	sidecarRecovery = 10 * time.Second
	childRecovery   = time.Second
	// outageRecovery is how soon after an outage of Redis work goes on.
	outageRecovery = 3 * time.Second
)

// rules returns the checker of a history, with what this suite knows of its tasks.
func (w *world) rules() *history.Judge {
	return &history.Judge{
		Tasks: w.tasks, Groups: w.groups, Again: w.again, Delay: w.delay, Gaps: w.obs.missed(),
		MayFail: func(t *history.Task) bool { return mayFail(t.Do) },
		Silent:  func(t *history.Task) bool { return t.Do == "fail" },
		Repeats: func(t *history.Task, f *history.Fate) int {
			switch t.Do {
			case "retry":
				return 1
			case "die":
				return len(f.Starts) // each start kills its worker, which is a fault
			case "retry always":
				return 2 // the retries: it has three attempts
			}
			return 0
		},
		LostUnread: func(task string) int { return w.logged(task, "task lost with its worker") },
		Elapsed:    machine.Between,
		Violation:  w.violation,
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
