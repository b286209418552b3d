//go:build simulation

package simulation

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/metrics"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/linear"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redismodel"
)

const (
	// calmFor is how long no fault may have been there for a probe.
	calmFor = 30 * time.Second
	// isolationHold is how long claims are held for a record that runs alone, at most.
	isolationHold = 10 * time.Second
	// probeSlack is what a probe may take besides the waits that a full fleet explains.
	probeSlack = 10 * time.Second
)

// probe pushes a good record to the head of the queue while no fault is there, and checks
// that it ends in time, whatever stands beside it.
func (w *world) probe() {
	if !w.calm(calmFor) {
		return
	}
	// All slots may be taken, and then a record runs alone, for which claims are held.
	c := &w.plan
	most := c.holdsSlot() + isolationHold + probeSlack
	var id string
	if c.right {
		r := w.fill(record{Ms: 10}, "p")
		if id = r.TaskID; !w.push(r) {
			return
		}
	} else {
		group := w.probeGroup()
		if group == "" {
			return
		}
		id = group
	}
	pushed := time.Now()
	w.note(history.Event{What: "probe", Task: id})
	w.mu.Lock()
	front := w.front
	w.mu.Unlock()
	var check func()
	check = func() {
		w.mu.Lock()
		disturbed := w.restless.After(pushed) || w.over
		before := w.front - front // records that producers have pushed in front of it
		front = w.front
		w.mu.Unlock()
		switch {
		case disturbed || w.probeEnded(id):
		case before > 0:
			time.AfterFunc(time.Duration(before)*c.holdsSlot(), check)
		default:
			w.violation("probe %s has not ended after %v without a fault", id, time.Since(pushed))
		}
	}
	time.AfterFunc(most, check)
	w.mu.Lock()
	w.counts["probe"]++
	w.mu.Unlock()
}

// probeGroup pushes a group of one good record. It returns the record's id.
func (w *world) probeGroup() string {
	w.mu.Lock()
	id := fmt.Sprintf("g%03d", len(w.groups)+1)
	w.groups[id] = &history.Group{ID: id, Expected: 1, At: time.Now()}
	w.mu.Unlock()
	w.server.Do("SET", w.key("barrier", id, "expected"), "1")
	r := w.fill(record{Ms: 10, GroupID: &id}, "p")
	if !w.push(r) {
		return ""
	}
	return r.TaskID
}

func (w *world) probeEnded(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range slices.Backward(w.events) {
		if e.Task == id && (e.What == history.Completed || e.What == history.Value) {
			return true
		}
	}
	return false
}

// calm reports whether no fault was there for a time and some sidecar is ready.
func (w *world) calm(for_ time.Duration) bool {
	w.mu.Lock()
	quiet := time.Since(w.restless) > for_ && len(w.undo) == 0
	w.mu.Unlock()
	return quiet && slices.ContainsFunc(w.running(), func(m *member) bool { return m.app.Status().Ready })
}

// Bounds of the end of everything.
const (
	// stuckAfter is how long no record may end while some are left. A record that shared
	// the deaths of others waits for up to ten minutes for a sidecar without other tasks.
	stuckAfter = 12 * time.Minute
	// neverAfter bounds the whole.
	neverAfter = 6 * time.Hour
	// goneWithin is how soon the keys of dead runs are gone.
	goneWithin = time.Minute
)

// settle waits until every record has ended, with all faults over.
func (w *world) settle() {
	began, moved, last := time.Now(), time.Now(), -1
	for {
		w.refill()
		n := w.unfinished()
		if n == 0 {
			return
		}
		w.mu.Lock()
		ends := w.completions
		w.mu.Unlock()
		if ends != last {
			last, moved = ends, time.Now()
		}
		if time.Since(moved) > stuckAfter || time.Since(began) > neverAfter {
			w.violation("%d records have not ended %v after the last fault, and none has for %v: %s", n, time.Since(began), time.Since(moved), w.leftover())
			return
		}
		sleep(time.Second)
	}
}

// leftover names some of the records that have not ended, and where they are.
func (w *world) leftover() string {
	const most = 4
	var found []string
	w.server.With(func(db *redismodel.DB) {
		for _, key := range db.Do("KEYS", w.key("*")).Texts() {
			var records []string
			switch {
			case key == w.key("queue"), key == w.key("sidecar:unrouted"), strings.HasPrefix(key, w.key("sidecar:inbox:")):
				records = db.Do("LRANGE", key, "0", strconv.Itoa(most)).Texts()
			case key == w.key("sidecar:delayed:records"), strings.HasPrefix(key, w.key("sidecar:inflight:")):
				records = db.Do("HVALS", key).Texts()
			}
			for _, text := range records {
				id := history.TaskOf(text[max(0, strings.IndexByte(text, '{')):])
				found = append(found, fmt.Sprintf("%s (%q) in %s", id, w.behaviours[id], ids.ReplaceAllString(key, "#")))
			}
		}
	})
	return strings.Join(found[:min(len(found), most)], ", ")
}

// awaitTheGone waits until the living have removed the keys of dead runs. A sidecar that
// still stops may leave its run to them.
func (w *world) awaitTheGone() {
	for _, m := range w.members {
		if closed(m.app.Stopping()) {
			<-m.ended
		}
	}
	for began := time.Now(); ; sleep(time.Second) {
		left := w.strangers()
		if len(left) == 0 {
			return
		}
		if time.Since(began) > goneWithin {
			w.violation("%v after the last death these keys are left: %v", goneWithin, left)
			return
		}
	}
}

// strangers returns the keys of runs whose sidecar is not running.
func (w *world) strangers() (found []string) {
	var names []string
	for _, m := range w.members {
		if !m.host.Dead() && !closed(m.ended) {
			names = append(names, m.name+"-")
		}
	}
	belongs := func(run string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(run, n) })
	}
	for _, kind := range []string{"alive", "inbox", "inflight", "meta"} {
		for _, key := range w.server.Do("KEYS", w.key("sidecar", kind, "*")).Texts() {
			if !belongs(strings.TrimPrefix(key, w.key("sidecar", kind)+":")) {
				found = append(found, key)
			}
		}
	}
	for _, run := range w.server.Do("SMEMBERS", w.key("sidecar:runs")).Texts() {
		if !belongs(run) {
			found = append(found, "runs "+run)
		}
	}
	return found
}

// stopAll stops the fleet and waits for every sidecar, also for what is left of the killed.
func (w *world) stopAll() {
	for _, m := range w.members {
		m.tell()
		m.app.Stop() // also one whose command to drain was lost
	}
	ended := make(chan struct{})
	go func() {
		w.wg.Wait()
		close(ended)
	}()
	timer := time.NewTimer(neverAfter)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C:
		panic(fmt.Sprintf("the fleet has not stopped within %v: %v", neverAfter, w.violations)) // with all stacks
	}
	if left := w.strangers(); len(left) > 0 {
		w.violation("keys of runs that are over: %v", left)
	}
	for _, m := range w.members {
		if ps := m.alive(); len(ps) > 0 {
			w.violation("%s has left %d workers behind", m.name, len(ps))
			for _, p := range ps {
				p.cancel()
			}
		}
		for _, line := range m.log.last(keepLines) {
			if strings.Contains(line, "panic") || strings.Contains(line, "this is a bug") {
				w.violation("%s broke: %.300s", m.name, line)
			}
		}
	}
	sleep(time.Minute) // connections end with the latency of their link
	left := ownGoroutines()
	w.server.CloseConns()
	if len(left) > 0 {
		w.violation("%d goroutines are left: %s", len(left), left[0])
	}
}

// ownGoroutines returns the stacks of the other goroutines in this bubble.
func ownGoroutines() (left []string) {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for i, stack := range strings.Split(string(buf), "\n\n") {
		head, _, _ := strings.Cut(stack, "\n")
		if i > 0 && strings.Contains(head, "synctest bubble") && !strings.Contains(stack, "testingSynctestTest(") && !strings.Contains(head, "synctest.Run") {
			left = append(left, stack[:min(len(stack), 1500)])
		}
	}
	return left
}

// heapBound is the most that the heap of a whole fleet may take, after a collection. It is
// far above what the shapes need and far below what a leak takes in an hour.
const heapBound = 512 << 20

func (w *world) checkHeap() {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(sample)
	if n := sample[0].Value.Uint64(); n > heapBound {
		w.violation("the heap takes %d MB", n>>20)
	}
}

// final returns what Redis holds.
func (w *world) final() history.Final {
	f := history.Final{Completions: map[string]map[string]history.Completion{}, Counters: map[string]int{}, Results: map[string]string{}}
	for id := range w.groups {
		f.Completions[id] = map[string]history.Completion{}
	}
	var kept *redismodel.Snapshot
	w.server.With(func(db *redismodel.DB) { kept = db.Snapshot() })
	kept.Contents(func(c redismodel.Content) bool {
		kind, rest, _ := strings.Cut(strings.TrimPrefix(c.Key, prefix+":"), ":")
		switch {
		case kind == "completions":
			for i := 0; i+1 < len(c.Fields); i += 2 {
				var one history.Completion
				if err := json.Unmarshal([]byte(c.Fields[i+1]), &one); err != nil {
					w.violation("completion of %s: %v", c.Fields[i], err)
				}
				if f.Completions[rest] != nil {
					f.Completions[rest][c.Fields[i]] = one
				}
			}
		case kind == "barrier" && !strings.HasSuffix(rest, ":expected"):
			f.Counters[rest], _ = strconv.Atoi(c.Text)
		case strings.HasPrefix(c.Key, w.key("sidecar:dead")+":"):
			l := history.Letter{}
			for i := 0; i+1 < len(c.Fields); i += 2 {
				switch c.Fields[i] {
				case "task_id":
					l.Task = c.Fields[i+1]
				case "reason":
					l.Reason = c.Fields[i+1]
				case "attempts":
					l.Attempts, _ = strconv.Atoi(c.Fields[i+1])
				}
			}
			f.Letters = append(f.Letters, l)
		case strings.HasSuffix(c.Key, ".__result__"):
			f.Results[strings.TrimSuffix(strings.TrimPrefix(c.Key, "graflow:channel:"+prefix+":"), ".__result__")] = c.Text
		}
		return true
	})
	return f
}

// judge checks the whole history.
func (w *world) judge() {
	w.mu.Lock()
	events, severe := slices.Clone(w.events), w.severe
	w.mu.Unlock()
	s, left := history.Tell(events), w.final()
	j := &history.Judge{
		Tasks: w.tasks, Groups: w.groups, Again: w.forgetting, Delay: 1000 * time.Hour, Gaps: w.forgetting > 0,
		MayFail: w.mayFail, Silent: w.mayFail,
		Repeats: func(t *history.Task, f *history.Fate) int {
			switch w.behaviours[t.ID] {
			case works, asksChannel, enqueues, nests, drains, floodsStderr, floodsStdout, textID, answersTwice, quits:
				return severe
			case retriesOnce, diesOnce, diesLate, failsUnread:
				return severe + 1
			default:
				return severe + len(f.Starts)
			}
		},
		LostUnread: func(string) int { return severe + w.counts[string(killsChild)] + w.counts[string(kills)] },
		Elapsed:    func(from, to time.Time) time.Duration { return to.Sub(from) },
		Violation:  w.violation,
	}
	for _, id := range slices.Sorted(maps.Keys(w.tasks)) {
		if !w.released[id] {
			j.CheckTask(w.tasks[id], s.Of(id), left, w.interrupts[id])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(w.groups)) {
		j.CheckGroup(w.groups[id], s, left, w.interrupts)
	}
	w.checkAttempts(s)
	w.judgeAgain(j, events, left)
}

// judgeAgain has the history checked by the second judge, whose rules are other ones.
func (w *world) judgeAgain(first *history.Judge, events []history.Event, left history.Final) {
	pictures := build.Root(".cache", "simulation")
	if w.broken.planted() {
		pictures = w.t.TempDir()
	}
	if err := os.MkdirAll(pictures, 0o755); err != nil {
		w.t.Fatal(err)
	}
	j := &linear.Judge{
		Tasks: w.tasks, Groups: w.groups, Silent: first.Silent, Dir: pictures,
		MayRepeat: func(t *history.Task) bool { return !w.behaviours[t.ID].succeeds() || w.behaviours[t.ID] == retriesOnce },
	}
	r := j.Check(events, left)
	for _, v := range r.Violations {
		w.violation("%s", v.Text)
	}
	w.second = r
}

// checkAttempts checks that a record that kills its worker each time is not tried for ever.
func (w *world) checkAttempts(s *history.Story) {
	for id, f := range s.Tasks {
		b := w.behaviours[id]
		if b != dies && b != segfaults && b != hangs {
			continue
		}
		if most := 2*w.maxAttempts() + w.severe + w.counts[string(requeuesDead)]*w.maxAttempts(); len(f.Starts) > most {
			w.violation("%s (%s) ran %d times, and may %d times", id, b, len(f.Starts), most)
		}
	}
}

func (w *world) maxAttempts() int { return 3 }

// mayFail tells whether a failure of a task is right.
func (w *world) mayFail(t *history.Task) bool {
	b := w.behaviours[t.ID]
	if !b.succeeds() {
		return true
	}
	p := &w.plan
	switch {
	case b == nests:
		return true // it waits for others, which may take longer than its deadline
	case p.has(freezesHost, freezesChild) || slices.Contains(p.points, freezesAt):
		return true // its worker may have missed the deadline
	case b != works && !p.faultless():
		return true // what it asks for may come after its deadline
	case p.concurrency > 1 && p.badShare > 0:
		return true // it may share a worker with one that spoils its answers
	}
	return w.sized[t.ID]
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
