//go:build simulation

package simulation

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redismodel"
)

// fill gives a record an id and Graflow's fields. kind is the first letter of the id, by
// which kinds of workers take it.
func (w *world) fill(r record, kind string) record {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.TaskID == "" {
		w.records++
		r.TaskID = fmt.Sprintf("%s%04d", kind, w.records)
	}
	r.SessionID, r.GraphHash, r.TraceID = prefix, "none", prefix
	r.CreatedAt = json.Number(strconv.FormatFloat(float64(time.Now().UnixMicro())/1e6, 'f', 6, 64))
	t := &history.Task{ID: r.TaskID, Do: string(r.Do)}
	if longest := max(len(r.Pad), r.Size); longest+2000 > w.plan.maxMessage || r.Size+2000 > w.plan.maxBulk {
		w.sized[r.TaskID] = true
		t.Do = "large" + t.Do
	}
	if r.GroupID != nil {
		t.Group = *r.GroupID
	}
	w.tasks[r.TaskID], w.behaviours[r.TaskID] = t, r.Do
	return r
}

// draw makes a random record of the plan.
func (w *world) draw() record {
	p := &w.plan
	r := record{Ms: 1 + w.rnd.IntN(p.workMs)}
	if w.rnd.Float64() < p.badShare && len(p.behaviours) > 0 {
		r.Do = pick(w.rnd, p.behaviours...)
	}
	size := func() int {
		if w.rnd.IntN(4) > 0 {
			return 0
		}
		return pick(w.rnd, p.sizes...)
	}
	r.Size = size()
	if n := size(); n > 200 {
		r.Pad = strings.Repeat("p", max(n-200, 0))
	}
	switch r.Do {
	case tooLarge, valueTooLarge:
		r.Size = p.maxBulk + 100
		if p.maxBulk > 1<<20 {
			r.Do = works // Redis takes what a worker may send
			r.Size = 0
		}
	case enqueues, nests:
		r.Next = 1 + w.rnd.IntN(3)
	}
	return r
}

// kindOf draws the first letter of an id.
func (w *world) kindOf(r record) string {
	if w.plan.kinds && w.rnd.IntN(3) == 0 && r.Do != nests {
		return "x"
	}
	return "t"
}

// pushBatch pushes some records: as a group, or each by itself.
func (w *world) pushBatch() {
	records := make([]record, 1+w.rnd.IntN(w.plan.batch))
	for i := range records {
		records[i] = w.draw()
	}
	if w.rnd.Float64() < w.plan.groupShare {
		w.group(records...)
		return
	}
	for _, r := range records {
		r = w.fill(r, w.kindOf(r))
		w.push(r)
	}
}

// group opens a barrier and pushes its records, as Graflow does. It returns the group's id,
// or "" if Redis did not take the barrier.
func (w *world) group(records ...record) string {
	if w.net.Down() {
		return ""
	}
	w.mu.Lock()
	id := fmt.Sprintf("g%03d", len(w.groups)+1)
	w.groups[id] = &history.Group{ID: id, Expected: len(records), At: time.Now()}
	w.mu.Unlock()
	if w.server.Do("SET", w.key("barrier", id, "expected"), strconv.Itoa(len(records))).Err() != "" {
		w.mu.Lock()
		w.groups[id].Over = true
		w.mu.Unlock()
		return ""
	}
	for _, r := range records {
		r.GroupID = &id
		r = w.fill(r, w.kindOf(r))
		w.push(r)
		if w.plan.duplicates && w.rnd.IntN(8) == 0 {
			w.push(r) // as a producer that did not get the first acknowledgement
		}
	}
	return id
}

// push adds a record to the queue. It reports whether Redis acknowledged that.
func (w *world) push(r record) bool {
	text, err := json.Marshal(r)
	if err != nil || w.net.Down() {
		return false
	}
	command := "RPUSH"
	if r.GroupID != nil {
		command = "LPUSH"
	}
	task := history.Event{What: history.Pushing, Task: r.TaskID}
	if r.GroupID != nil {
		task.Group = *r.GroupID
	}
	w.note(task)
	if w.server.Do(command, w.key("queue"), string(text)).Err() != "" {
		return false
	}
	w.acknowledge(r.TaskID)
	if (command == "RPUSH") == w.plan.right {
		w.mu.Lock()
		w.front++
		w.mu.Unlock()
	}
	return true
}

// acknowledge notes that Redis has a record.
func (w *world) acknowledge(task string) {
	w.mu.Lock()
	t := w.tasks[task]
	t.Pushes++
	t.Unsure = false
	w.mu.Unlock()
	w.note(history.Event{What: history.Pushed, Task: task, Group: t.Group})
}

// child is a record that a task adds to the queue.
type child struct{ id, text string }

// children makes the records that a task adds by requests to its sidecar.
func (w *world) children(parent record) (list []child) {
	for range parent.Next {
		r := w.fill(record{Ms: 5}, "t")
		w.mu.Lock()
		w.tasks[r.TaskID].Unsure = true // until the request is answered
		w.mu.Unlock()
		text, _ := json.Marshal(r) // it has no value that JSON does not have
		list = append(list, child{r.TaskID, string(text)})
	}
	return list
}

// nested pushes a group for a task that waits for it.
func (w *world) nested(parent record) string {
	w.pushing.Add(1)
	defer w.pushing.Add(-1)
	records := make([]record, parent.Next)
	for i := range records {
		records[i] = record{Ms: 5}
	}
	w.mu.Lock()
	id := fmt.Sprintf("g%03d", len(w.groups)+1)
	w.groups[id] = &history.Group{ID: id, Expected: len(records), At: time.Now()}
	w.waits[id] = make(chan struct{})
	w.mu.Unlock()
	for w.net.Down() || w.server.Do("SET", w.key("barrier", id, "expected"), strconv.Itoa(len(records))).Err() != "" {
		sleep(time.Second)
	}
	w.mu.Lock()
	w.groups[id].Over = false // what Redis has forgotten meanwhile was not this group
	w.mu.Unlock()
	for _, r := range records {
		r.GroupID = &id
		r = w.fill(r, "t")
		for !w.push(r) {
			sleep(time.Second)
		}
	}
	return id
}

// published returns a channel that is closed when a group is done.
func (w *world) published(group string) <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	if ch := w.waits[group]; ch != nil {
		return ch
	}
	done := make(chan struct{})
	close(done)
	return done
}

// forget notes what a server that has lost its memory does not know any more: its producers
// wait for nothing of it. kept is what it still has.
func (w *world) forget(kept *redismodel.Snapshot) {
	known, open := map[string]bool{}, map[string]bool{}
	if kept != nil {
		kept.Contents(func(c redismodel.Content) bool {
			w.remember(c, known, open)
			return true
		})
	}
	w.note(history.Event{What: history.Forgot})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.forgetting++
	for id, t := range w.tasks {
		if !known[id] {
			t.Pushes, t.Unsure = 0, true
		}
	}
	for id, g := range w.groups {
		if !open[id] {
			g.Over = true
		}
	}
}

// remember notes the tasks and the groups of one key.
func (w *world) remember(c redismodel.Content, known, open map[string]bool) {
	texts := append(append([]string{c.Text}, c.Items...), c.Fields...)
	switch {
	case strings.HasPrefix(c.Key, w.key("barrier")+":") && strings.HasSuffix(c.Key, ":expected"):
		open[strings.TrimSuffix(strings.TrimPrefix(c.Key, w.key("barrier")+":"), ":expected")] = true
	case strings.HasPrefix(c.Key, w.key("completions")+":"), strings.HasPrefix(c.Key, w.key("sidecar:dead")+":"):
		for i := 0; i+1 < len(c.Fields); i += 2 {
			known[c.Fields[i]] = true
			if c.Fields[i] == "task_id" {
				known[c.Fields[i+1]] = true
			}
		}
	case strings.HasSuffix(c.Key, ".__result__"):
		known[strings.TrimSuffix(strings.TrimPrefix(c.Key, "graflow:channel:"+prefix+":"), ".__result__")] = true
	default:
		for _, text := range texts {
			if at := strings.IndexByte(text, '{'); at >= 0 {
				known[history.TaskOf(text[at:])] = true // an unrouted record stands behind a time
			}
		}
	}
}
