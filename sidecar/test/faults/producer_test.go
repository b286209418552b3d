//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"

	"github.com/redis/go-redis/v9"
)

// fill adds a new task id and Graflow's fields to a record.
func (w *world) fill(r record) record {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.TaskID == "" {
		r.TaskID = fmt.Sprintf("t%04d", len(w.tasks)+1)
	}
	r.SessionID, r.GraphHash, r.TraceID = w.prefix, "none", w.prefix
	r.CreatedAt = json.Number(strconv.FormatFloat(float64(time.Now().UnixMicro())/1e6, 'f', 6, 64))
	w.tasks[r.TaskID] = &history.Task{ID: r.TaskID, Do: r.Do}
	if r.GroupID != nil {
		w.tasks[r.TaskID].Group = *r.GroupID
	}
	return r
}

// push dispatches a record as Graflow does: the record of a group to the left end of the
// queue, another one to the right end. It reports whether Redis acknowledged the push.
func (w *world) push(r record) bool {
	text, err := json.Marshal(r)
	if err != nil {
		w.t.Error(err)
		return false
	}
	return w.pushText(r.TaskID, string(text), r.GroupID != nil)
}

func (w *world) pushText(id, text string, left bool) bool {
	ctx, cancel := bounded()
	defer cancel()
	w.mu.Lock()
	t := w.tasks[id]
	w.mu.Unlock()
	var reply *redis.IntCmd
	w.note(history.Pushing, id, t.Group)
	if left {
		reply = w.c.LPush(ctx, w.key("queue"), text)
	} else {
		reply = w.c.RPush(ctx, w.key("queue"), text)
	}
	err := reply.Err()
	w.mu.Lock()
	if err == nil {
		t.Pushes++
	} else {
		t.Unsure = true
	}
	w.mu.Unlock()
	if err != nil {
		return false
	}
	w.note(history.Pushed, id, t.Group)
	return true
}

// note writes an event of a producer to the history.
func (w *world) note(what, task, group string) {
	if err := w.hist.Write(history.Event{What: what, Task: task, Group: group}); err != nil {
		w.t.Error(err)
	}
}

// one pushes a record without a group and returns its task id.
func (w *world) one(r record) string {
	r = w.fill(r)
	w.push(r)
	return r.TaskID
}

// next returns a record that a task will push once, by a request to its sidecar.
func (w *world) next() json.RawMessage {
	r := w.fill(record{})
	w.mu.Lock()
	w.tasks[r.TaskID].Pushes++ // a task that cannot push it fails, which is a violation
	w.mu.Unlock()
	text, err := json.Marshal(r)
	if err != nil {
		w.t.Error(err)
	}
	return text
}

// group opens a barrier for the records, pushes them and returns the group's id, or "" where
// Redis did not acknowledge the barrier.
func (w *world) group(rs ...record) string {
	w.mu.Lock()
	id := fmt.Sprintf("g%03d", len(w.groups)+1)
	g := &history.Group{ID: id, Expected: len(rs), At: time.Now()}
	w.groups[id] = g
	w.mu.Unlock()
	ctx, cancel := bounded()
	defer cancel()
	pipe := w.c.TxPipeline()
	pipe.Del(ctx, w.key("barrier", id))
	pipe.Set(ctx, w.key("barrier", id, "expected"), len(rs), 0)
	if _, err := pipe.Exec(ctx); err != nil {
		w.mu.Lock()
		delete(w.groups, id) // without a barrier no producer waits for it
		w.mu.Unlock()
		return ""
	}
	for _, r := range rs {
		r.GroupID = &id
		w.push(w.fill(r))
	}
	return id
}

// giveUp deletes a group's barrier, as cleanup_barrier of Graflow's producer does when the
// producer stops waiting.
func (w *world) giveUp(group string) {
	ctx, cancel := bounded()
	defer cancel()
	w.mu.Lock()
	w.groups[group].Over = true
	w.mu.Unlock()
	w.note(history.GivingUp, "", group)
	keys := []string{w.key("barrier", group), w.key("barrier", group, "expected"), w.key("completions", group)}
	if err := w.c.Del(ctx, keys...).Err(); err != nil {
		w.t.Error(err)
	}
}

// twice pushes one record two times, as a producer may do that did not get the first
// acknowledgement, and returns its task id.
func (w *world) twice(r record) string {
	w.mu.Lock()
	id := fmt.Sprintf("g%03d", len(w.groups)+1)
	w.groups[id] = &history.Group{ID: id, Expected: 1, At: time.Now()}
	w.mu.Unlock()
	ctx, cancel := bounded()
	defer cancel()
	if err := w.c.Set(ctx, w.key("barrier", id, "expected"), 1, 0).Err(); err != nil {
		w.t.Error(err)
	}
	r.GroupID = &id
	r = w.fill(r)
	w.push(r)
	w.push(r)
	return r.TaskID
}

// work returns n ordinary records that take up to most ms each.
func (w *world) work(n, most int) []record {
	rs := make([]record, n)
	for i := range rs {
		rs[i] = record{Ms: w.rnd.IntN(most) + 1}
	}
	return rs
}
