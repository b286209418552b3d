//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// fate is what the history says about one task.
type fate struct {
	starts, ends []event
	returns      []event
	completed    []event
	values       int
	lost         []loss
}

// loss is the kill of a worker process and the last task that it began.
type loss struct {
	at    time.Time
	start event
}

// story is a whole history, sorted by task and by group.
type story struct {
	tasks     map[string]*fate
	counted   map[string]int
	published map[string]time.Time
}

func (s *story) of(task string) *fate {
	f := s.tasks[task]
	if f == nil {
		f = &fate{}
		s.tasks[task] = f
	}
	return f
}

func tell(events []event) *story {
	s := &story{tasks: map[string]*fate{}, counted: map[string]int{}, published: map[string]time.Time{}}
	began := map[int][]event{} // the starts of each worker process
	slices.SortStableFunc(events, func(a, b event) int { return int(a.At - b.At) })
	for _, e := range events {
		switch e.What {
		case started:
			s.of(e.Task).starts = append(s.of(e.Task).starts, e)
			began[e.Pid] = append(began[e.Pid], e)
		case ended:
			s.of(e.Task).ends = append(s.of(e.Task).ends, e)
		case returned:
			s.of(e.Task).returns = append(s.of(e.Task).returns, e)
		case completed:
			s.of(e.Task).completed = append(s.of(e.Task).completed, e)
		case value:
			s.of(e.Task).values++
		case counted:
			n, _ := strconv.Atoi(e.Text)
			s.counted[e.Group] += n
		case published:
			if s.published[e.Group].IsZero() {
				s.published[e.Group] = e.time()
			}
		}
	}
	for _, e := range events {
		if e.What == kills {
			s.lose(e, began[e.Pid])
		}
	}
	return s
}

// lose counts the kill of a worker as a loss of the last task that it began. The kill is in
// the history before it happens, so the worker may begin a task up to a moment later.
func (s *story) lose(kill event, starts []event) {
	const moment = time.Second
	for _, start := range slices.Backward(starts) {
		if start.time().After(kill.time().Add(moment)) {
			continue // a later process with the same id
		}
		at := kill.time()
		if start.time().After(at) {
			at = start.time()
		}
		s.of(start.Task).lost = append(s.of(start.Task).lost, loss{at, start})
		return
	}
}

// completion is what Graflow keeps about the end of a task.
type completion struct {
	TaskID  string  `json:"task_id"`
	Success bool    `json:"success"`
	At      float64 `json:"timestamp"`
	Error   *string `json:"error_message"`
}

// letter is a dead letter.
type letter struct {
	task, raw, reason, message, stderr string
	attempts                           int
}

// final is what Redis holds at the end of a test.
type final struct {
	completions map[string]map[string]completion // by group
	counters    map[string]int
	results     map[string]string // by task
	letters     []letter
	keys        []string // of the sidecars
}

func (w *world) final() final {
	w.t.Helper()
	ctx, cancel := bounded()
	defer cancel()
	f := final{completions: map[string]map[string]completion{}, counters: map[string]int{}, results: map[string]string{}}
	fail := func(err error) {
		if err != nil {
			w.t.Errorf("look at what is left: %v", err)
		}
	}
	for id := range w.groups {
		texts, err := w.c.HGetAll(ctx, w.key("completions", id)).Result()
		fail(err)
		f.completions[id] = map[string]completion{}
		for task, text := range texts {
			var c completion
			fail(json.Unmarshal([]byte(text), &c))
			f.completions[id][task] = c
		}
		f.counters[id], _ = strconv.Atoi(w.c.Get(ctx, w.key("barrier", id)).Val())
	}
	channel := "graflow:channel:" + w.prefix + ":"
	results, err := w.c.Keys(ctx, channel+"*").Result()
	fail(err)
	for _, key := range results {
		f.results[strings.TrimSuffix(strings.TrimPrefix(key, channel), ".__result__")] = w.c.Get(ctx, key).Val()
	}
	f.keys, err = w.c.Keys(ctx, w.key("sidecar", "*")).Result()
	fail(err)
	for _, key := range f.keys {
		if !strings.HasPrefix(key, w.key("sidecar", "dead")+":") {
			continue
		}
		h, err := w.c.HGetAll(ctx, key).Result()
		fail(err)
		attempts, _ := strconv.Atoi(h["attempts"])
		f.letters = append(f.letters, letter{h["task_id"], h["raw"], h["reason"], h["message"], h["stderr"], attempts})
	}
	return f
}

// verify stops the sidecars, makes every check and adds a row to the table.
func (w *world) verify(name string) (final, *story) {
	w.t.Helper()
	w.drainObserver()
	w.awaitTheGone()
	w.stopAll()
	w.nothingLeft()
	events, err := w.hist.read()
	if err != nil {
		w.t.Fatal(err)
	}
	s, f := tell(events), w.final()
	worst := w.judge(s, f)
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
func (w *world) judge(s *story, f final) time.Duration {
	w.mu.Lock()
	touched := map[string]int{}
	for _, h := range w.hits {
		for _, task := range h.tasks {
			touched[task]++
		}
	}
	w.mu.Unlock()
	for _, id := range sorted(w.tasks) {
		w.checkTask(w.tasks[id], s.of(id), f, touched[id])
	}
	for _, id := range sorted(w.groups) {
		w.checkGroup(w.groups[id], s, f, touched)
	}
	if w.obs.missed() && !w.blind {
		w.violation("the observer lost its connection to Redis, which nothing was done to")
	}
	return w.recovery(s)
}

func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
