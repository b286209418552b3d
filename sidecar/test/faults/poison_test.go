//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
)

// poison is a text that is not a valid record, or an unusual record that runs.
type poison struct {
	name   string
	text   func(id, group string, created string) string
	reason string // of its dead letter; empty: it runs like any other record
	told   bool   // its group is told of the failure: group and task are readable
}

func whole(id, group, created, more string) string {
	return fmt.Sprintf(`{"task_id":%q,"session_id":"s","created_at":%s,"group_id":%q%s}`, id, created, group, more)
}

var poisons = []poison{
	{"empty", func(string, string, string) string { return "" }, "invalid", false},
	{"not JSON", func(id, _, _ string) string { return "task " + id + ", please" }, "invalid", false},
	{"cut short", func(id, g, at string) string { return strings.TrimSuffix(whole(id, g, at, ""), "}") }, "invalid", false},
	{"a list", func(id, _, _ string) string { return `["` + id + `"]` }, "invalid", false},
	{"a number", func(string, string, string) string { return "17" }, "invalid", false},
	{"null", func(string, string, string) string { return "null" }, "invalid", false},
	{"no task_id", func(_, g, at string) string {
		return fmt.Sprintf(`{"session_id":"s","created_at":%s,"group_id":%q}`, at, g)
	}, "invalid", false},
	{"a task_id that is a number", func(_, g, _ string) string { return fmt.Sprintf(`{"task_id":7,"group_id":%q}`, g) }, "invalid", false},
	{"a timeout that is a text", func(id, g, at string) string { return whole(id, g, at, `,"timeout":"soon"`) }, "invalid", true},
	{"invalid UTF-8", func(id, g, at string) string { return whole(id, g, at, ",\"x\":\"\xff\xfe\"") }, "invalid", false},
	{"5 MB", func(id, g, at string) string { return whole(id, g, at, `,"pad":"`+strings.Repeat("x", 5<<20)+`"`) }, "", true},
	{"nested 400 deep", func(id, g, at string) string {
		return whole(id, g, at, `,"x":`+strings.Repeat("[", 400)+strings.Repeat("]", 400))
	}, "", true},
	{"nested 200,000 deep", func(id, g, at string) string {
		return whole(id, g, at, `,"x":`+strings.Repeat("[", 200_000)+strings.Repeat("]", 200_000))
	}, "invalid", false},
	{"line breaks between its tokens", func(id, g, at string) string {
		return strings.ReplaceAll(whole(id, g, at, ""), ",", ",\r\n")
	}, "", true},
	{"only what must be there", func(id, g, _ string) string { return fmt.Sprintf(`{"task_id":%q,"group_id":%q}`, id, g) }, "", true},
	{"longer than a message may be", func(id, g, at string) string {
		return whole(id, g, at, `,"pad":"`+strings.Repeat("x", 17<<20)+`"`)
	}, "too-large", true},
}

// TestPoison pushes records that cannot run. Each one becomes a dead letter, byte for byte;
// its group is told where group and task are readable; and the other records on the queue
// run as usual.
func TestPoison(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.blind = true
	w.obs.close() // Redis takes seconds to write a record of 17 MB into a MONITOR stream
	w.crew(2, setup{})
	type pushed struct {
		poison
		id, group, text string
	}
	var all []pushed
	for i, p := range poisons {
		id, group := fmt.Sprintf("poison%02d", i), fmt.Sprintf("pg%02d", i)
		ctx, cancel := bounded()
		if err := w.c.Set(ctx, w.key("barrier", group, "expected"), 1, 0).Err(); err != nil {
			t.Fatal(err)
		}
		cancel()
		text := p.text(id, group, fmt.Sprintf("%d.5", i))
		w.mu.Lock()
		w.tasks[id] = &history.Task{ID: id, Do: "poison"}
		w.mu.Unlock()
		w.hurt(p.name)
		w.pushText(id, text, false)
		all = append(all, pushed{p, id, group, text})
		w.group(w.work(3, 30)...)
	}
	w.settle(40 * time.Second)
	letters := map[string]history.Letter{}
	ctx, cancel := bounded()
	defer cancel()
	for _, l := range w.final().Letters {
		letters[l.Raw] = l
	}
	for _, p := range all {
		l, dead := letters[p.text]
		if dead != (p.reason != "") || l.Reason != p.reason {
			w.violation("%s: dead letter %v with the reason %q, want %q", p.name, dead, l.Reason, p.reason)
		}
		text, err := w.c.HGet(ctx, w.key("completions", p.group), p.id).Result()
		var c history.Completion
		if err == nil {
			err = json.Unmarshal([]byte(text), &c)
		}
		if told := err == nil; told != p.told || (told && c.Success != (p.reason == "")) {
			w.violation("%s: its group was told %q (%v)", p.name, text, err)
		}
		delete(w.tasks, p.id) // checked above
	}
	for _, s := range w.sidecars {
		if n := strings.Count(s.text(), `"worker ready"`); n != 2 {
			w.violation("%s needed %d workers", s.id, n)
		}
	}
	w.verify("poison: records that are none")
}

// TestPoisonThatKillsItsWorker runs a task that kills its worker at each attempt. After three
// attempts it becomes a dead letter with the last output of the worker; the other tasks of
// the queue and of the group do not.
func TestPoisonThatKillsItsWorker(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.crew(2, setup{env: eager})
	for range 5 {
		rs := w.work(6, 60)
		rs[3].Do = "die"
		w.hurt("a task that kills its worker")
		w.group(rs...)
	}
	w.settle(40 * time.Second)
	f, s := w.verify("poison: a task that kills its worker each time")
	if len(f.Letters) != 5 {
		t.Errorf("%d dead letters", len(f.Letters))
	}
	for _, l := range f.Letters {
		if n := len(s.Of(l.Task).Starts); l.Reason != "attempts" || l.Attempts != 3 || n != 3 || !strings.Contains(l.Stderr, "last words of "+l.Task) {
			t.Errorf("%s ran %d times; reason %q, attempts %d, stderr %q", l.Task, n, l.Reason, l.Attempts, l.Stderr)
		}
		if c := f.Completions[w.tasks[l.Task].Group][l.Task]; c.Success || c.Error == nil {
			t.Errorf("completion of %s: %+v", l.Task, c)
		}
	}
}

// TestPoisonThatKillsItsSidecar runs a task that kills its sidecar, and so interrupts the
// other tasks there. It becomes a dead letter, and the other tasks do not, since it runs
// alone at its last attempt.
func TestPoisonThatKillsItsSidecar(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.delay = history.BarrierWait // the task kills three sidecars, one after another
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // restarts the sidecars, as Kubernetes restarts pods
		defer close(stopped)
		for again(stop, 100*time.Millisecond) {
			for range 2 - len(w.alive()) {
				w.start(setup{})
			}
		}
	}()
	rs := w.work(8, 200)
	for i := range rs {
		rs[i].Ms += 300 // so that they are in flight when the sidecar is killed
	}
	rs[4] = record{Do: "die with sidecar"}
	w.hurt("a task that kills its sidecar")
	w.group(rs...)
	w.settle(90 * time.Second)
	close(stop)
	<-stopped
	f, s := w.verify("poison: a task that kills its sidecar each time")
	if len(f.Letters) != 1 {
		t.Fatalf("dead letters: %+v", f.Letters)
	}
	l := f.Letters[0]
	if n := len(s.Of(l.Task).Starts); w.tasks[l.Task].Do == "" || l.Reason != "attempts" || l.Attempts != 3 || n < 3 || n > 4 {
		t.Errorf("%+v ran %d times", l, n)
	}
}

// endedBy checks that a task that ignores a cancel was ended soon after its deadline. The
// sidecar cancels the task, and then kills its worker, which has its own process group, in
// steps that take one and a half times SIDECAR_KILL_GRACE.
func (w *world) endedBy(f *history.Fate, limit time.Duration) {
	w.t.Helper()
	const grace, slack = time.Second, time.Second
	if len(f.Starts) == 0 || len(f.Completed) == 0 {
		w.t.Errorf("it started %d times and was completed %d times", len(f.Starts), len(f.Completed))
		return
	}
	from, to := f.Starts[0].Time(), f.Completed[0].Time()
	took := to.Sub(from)
	if took < limit || machine.Between(from, to) > limit+3*grace/2+slack {
		w.t.Errorf("a task with a deadline of %v was ended after %v", limit, took)
	}
}

// TestPoisonThatHangs runs a task that never ends and ignores a cancel. It is ended with its
// worker at the deadline of the settings, or at that of its record.
func TestPoisonThatHangs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		env     []string
		timeout float64
	}{
		{"SIDECAR_TASK_TIMEOUT", []string{"SIDECAR_TASK_TIMEOUT=700ms"}, 0},
		{"its record's timeout", []string{"SIDECAR_TASK_TIMEOUT=1h"}, 0.7},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.crew(2, setup{env: append(c.env, "SIDECAR_RESTART_BACKOFF_MAX=200ms")})
			for range 3 {
				rs := w.work(6, 60)
				rs[2].Do, rs[2].Timeout = "hang", c.timeout
				w.hurt("a task that hangs")
				w.group(rs...)
			}
			w.settle(40 * time.Second)
			f, s := w.verify("poison: a task that hangs, ended by " + c.name)
			for id, p := range w.tasks {
				if p.Do != "hang" {
					continue
				}
				c := f.Completions[p.Group][id]
				if n := len(s.Of(id).Starts); n != 1 || c.Success || c.Error == nil || !strings.Contains(*c.Error, "timeout") {
					t.Errorf("%s ran %d times, completion %+v", id, n, c)
				}
				w.endedBy(s.Of(id), 700*time.Millisecond)
			}
		})
	}
}
