package history_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"
)

// TestEvents reads commands that the scripts send.
func TestEvents(t *testing.T) {
	const record, other = `{"task_id":"t1","x":"{\"task_id\":\"no\"}"}`, `{ "task_id": "t2" }`
	for _, c := range []struct {
		words []string
		right bool // records are claimed from the right end
		want  string
	}{
		{[]string{"HSET", "p:completions:g", "t1", "{}", "t2", "[]"}, false, "completed t1 g  {}, completed t2 g  []"},
		{[]string{"HDEL", "p:completions:g", "t1"}, false, "revoked t1 g  "},
		{[]string{"INCRBY", "p:barrier:g", "2"}, false, "counted  g  2"},
		{[]string{"DECR", "p:barrier:g"}, false, "counted  g  -1"},
		{[]string{"PUBLISH", "p:barrier_done:g", "complete"}, false, "published  g  "},
		{[]string{"HSET", "p:sidecar:inflight:r", "r.1", record, "r.2", other}, false, "claimed t1  r.1 , claimed t2  r.2 "},
		{[]string{"HDEL", "p:sidecar:inflight:r", "r.1", "r.2"}, false, "removed   r.1 , removed   r.2 "},
		{[]string{"HSET", "p:sidecar:delayed:records", "r.1", record}, false, "delayed t1  r.1 "},
		{[]string{"SREM", "p:sidecar:runs", "r"}, false, "retired    r"},
		{[]string{"LPUSH", "p:queue", record}, false, "returned t1   "},
		{[]string{"RPUSH", "p:queue", record}, false, "added t1   "},
		{[]string{"LPUSH", "p:queue", record}, true, "added t1   "},
		{[]string{"RPUSH", "p:queue", record}, true, "returned t1   "},
		{[]string{"HSET", "p:sidecar:dead:r.1", "raw", record}, false, "dead   r.1 "},
		{[]string{"DEL", "p:sidecar:dead:r.1"}, false, "unburied   r.1 "},
		{[]string{"SET", "graflow:channel:p:t1.__result__", "1"}, false, "value t1   "},
		{[]string{"HSET", "p:sidecar:meta:r", "seq", "1"}, false, ""},
		{[]string{"DEL", "q:sidecar:dead:r.1"}, false, ""},
	} {
		var got []string
		for _, e := range (history.Reader{Prefix: "p", Right: c.right}).Events(1, c.words, true) {
			got = append(got, fmt.Sprint(e.What, " ", e.Task, " ", e.Group, " ", e.Delivery, " ", e.Text))
		}
		if all := strings.Join(got, ", "); all != c.want {
			t.Errorf("%v, right %v: %q, want %q", c.words, c.right, all, c.want)
		}
	}
}

// TestPushesOfOthers has a record that a producer pushes itself.
func TestPushesOfOthers(t *testing.T) {
	for _, command := range []string{"LPUSH", "RPUSH"} {
		if got := (history.Reader{Prefix: "p"}).Events(1, []string{command, "p:queue", "{}"}, false); len(got) != 0 {
			t.Errorf("%s: %v", command, got)
		}
	}
}

// TestWhole names the commands whose events need all of their words.
func TestWhole(t *testing.T) {
	r := history.Reader{Prefix: "p"}
	for command, want := range map[string]bool{
		"HSET p:completions:g": true, "HSET p:sidecar:inflight:r": true, "HDEL p:sidecar:inflight:r": true,
		"HSET p:sidecar:dead:r.1": false, "HMGET p:sidecar:inflight:r": false,
	} {
		name, key, _ := strings.Cut(command, " ")
		if got := r.Whole(name, key); got != want {
			t.Errorf("%s: %v", command, got)
		}
	}
}

// TestTaskOf reads the id of whole records, also where it is not written first or is quoted.
func TestTaskOf(t *testing.T) {
	for record, want := range map[string]string{
		`{"task_id":"t1","x":1}`: "t1", `{ "x": 1, "task_id": "t2" }`: "t2", `{"task_id":"a\"b"}`: `a"b`, `{`: "?", `7`: "?",
	} {
		if got := history.TaskOf(record); got != want {
			t.Errorf("%s: %q, want %q", record, got, want)
		}
	}
}
