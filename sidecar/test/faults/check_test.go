//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/linear"
)

func (w *world) final() history.Final {
	w.t.Helper()
	ctx, cancel := bounded()
	defer cancel()
	f := history.Final{Completions: map[string]map[string]history.Completion{}, Counters: map[string]int{}, Results: map[string]string{}}
	fail := func(err error) {
		if err != nil {
			w.t.Errorf("look at what is left: %v", err)
		}
	}
	for id := range w.groups {
		texts, err := w.c.HGetAll(ctx, w.key("completions", id)).Result()
		fail(err)
		f.Completions[id] = map[string]history.Completion{}
		for task, text := range texts {
			var c history.Completion
			fail(json.Unmarshal([]byte(text), &c))
			f.Completions[id][task] = c
		}
		f.Counters[id], _ = strconv.Atoi(w.c.Get(ctx, w.key("barrier", id)).Val())
	}
	channel := "graflow:channel:" + w.prefix + ":"
	results, err := w.c.Keys(ctx, channel+"*").Result()
	fail(err)
	for _, key := range results {
		f.Results[strings.TrimSuffix(strings.TrimPrefix(key, channel), ".__result__")] = w.c.Get(ctx, key).Val()
	}
	f.Keys, err = w.c.Keys(ctx, w.key("sidecar", "*")).Result()
	fail(err)
	for _, key := range f.Keys {
		if !strings.HasPrefix(key, w.key("sidecar", "dead")+":") {
			continue
		}
		h, err := w.c.HGetAll(ctx, key).Result()
		fail(err)
		attempts, _ := strconv.Atoi(h["attempts"])
		f.Letters = append(f.Letters, history.Letter{
			Task: h["task_id"], Raw: h["raw"], Reason: h["reason"], Message: h["message"], Stderr: h["stderr"], Attempts: attempts,
		})
	}
	return f
}

// verify stops the sidecars, makes every check and adds a row to the table.
func (w *world) verify(name string) (history.Final, *history.Story) {
	w.t.Helper()
	w.drainObserver()
	w.awaitTheGone()
	w.stopAll()
	w.nothingLeft()
	events, err := w.hist.Read()
	if err != nil {
		w.t.Fatal(err)
	}
	s, f := history.Tell(events), w.final()
	worst := w.judge(s, f)
	w.judgeAgain(events, f)
	for _, v := range w.broken {
		w.t.Errorf("violation: %s", v)
	}
	w.t.Logf("%s: %d tasks, %d faults, %d violations, worst recovery %v", name, len(w.tasks), w.faults, len(w.broken), worst)
	note := fmt.Sprintf("%d tasks", len(w.tasks))
	if longest, n := w.stalls.longest(); n > 0 && !w.blind {
		note += fmt.Sprintf(" (the machine stood still %d times, for up to %v)", n, longest.Round(10*time.Millisecond))
	}
	table.add(row{fault: name, runs: w.faults, violations: len(w.broken), worst: worst, note: note})
	return f, s
}

// judge checks a history and what Redis holds at the end, and returns the time of the
// slowest recovery.
func (w *world) judge(s *history.Story, f history.Final) time.Duration {
	w.mu.Lock()
	touched := map[string]int{}
	for _, h := range w.hits {
		for _, task := range h.tasks {
			touched[task]++
		}
	}
	w.mu.Unlock()
	rules := w.rules()
	for _, id := range sorted(w.tasks) {
		rules.CheckTask(w.tasks[id], s.Of(id), f, touched[id])
	}
	for _, id := range sorted(w.groups) {
		rules.CheckGroup(w.groups[id], s, f, touched)
	}
	if w.obs.missed() && !w.blind {
		w.violation("the observer lost its connection to Redis, which nothing was done to")
	}
	return w.recovery(s)
}

// judgeAgain has the history checked by the second judge, whose rules are other ones.
func (w *world) judgeAgain(events []history.Event, f history.Final) {
	rules := w.rules()
	j := &linear.Judge{
		Tasks: w.tasks, Groups: w.groups, Silent: rules.Silent, Gaps: w.obs.missed(),
		Skew: clockSkew, Dir: w.dir,
		MayRepeat: func(t *history.Task) bool {
			return w.again > 0 || rules.Repeats(t, &history.Fate{Starts: make([]history.Event, 1)}) > 0 || t.Do == "die with sidecar"
		},
	}
	r := j.Check(events, f)
	for _, v := range r.Violations {
		w.violation("%v", v)
	}
	for _, u := range r.Unknown {
		w.t.Logf("the second judge gave up: %s", u)
	}
	w.t.Log(r)
	second.add(r)
}

// clockSkew is how far the time of an event in Redis' MONITOR stream may differ from its time
// by the clock of a worker.
const clockSkew = time.Millisecond

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
