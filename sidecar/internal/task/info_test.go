package task_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

func TestDecode(t *testing.T) {
	const graflows = `{"task_id": "a", "session_id": "s", "graph_hash": "h", "trace_id": "t", "created_at": 1732335600.10, "group_id": "g", "parent_span_id": null}`
	for _, c := range []struct {
		name, record string
		want         task.Info
		bad          string
	}{
		{"Graflow's", graflows, task.Info{TaskID: "a", SessionID: "s", GraphHash: "h", TraceID: "t", CreatedAt: "1732335600.10", GroupID: "g"}, ""},
		{"the least", `{"task_id":"a"}`, task.Info{TaskID: "a"}, ""},
		{"unknown members", ` {"task_id":"a","x":[{}]} `, task.Info{TaskID: "a"}, ""},
		{"a timeout", `{"task_id":"a","timeout":1.5}`, task.Info{TaskID: "a", Timeout: 1500 * time.Millisecond}, ""},
		{"a timeout of zero", `{"task_id":"a","timeout":0}`, task.Info{TaskID: "a"}, ""},
		{"digits are kept", `{"task_id":"a","created_at":1e3}`, task.Info{TaskID: "a", CreatedAt: "1e3"}, ""},
		{"nothing", ``, task.Info{}, "not a JSON object"},
		{"not JSON", `{"task_id":"a"`, task.Info{}, "unexpected end"},
		{"not an object", `["task_id"]`, task.Info{}, "not a JSON object"},
		{"not UTF-8", "{\"task_id\":\"\xff\"}", task.Info{}, "not UTF-8"},
		{"no task_id", `{"group_id":"g"}`, task.Info{GroupID: "g"}, "no task_id"},
		{"a group with a task that cannot be read", `{"group_id":"g","task_id":7}`, task.Info{GroupID: "g"}, "task_id"},
		{"a timeout that is text", `{"task_id":"a","timeout":"soon"}`, task.Info{TaskID: "a"}, "number"},
		{"a negative timeout", `{"task_id":"a","timeout":-1}`, task.Info{TaskID: "a"}, "not a number of seconds"},
		{"a timeout beyond any clock", `{"task_id":"a","timeout":1e300}`, task.Info{TaskID: "a"}, "not a number of seconds"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := task.Decode([]byte(c.record))
			if got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			if (err != nil) != (c.bad != "") {
				t.Fatalf("error %v", err)
			}
			if err != nil && (!errors.Is(err, task.ErrInvalid) || !strings.Contains(err.Error(), c.bad)) {
				t.Errorf("error %q, want %q in it", err, c.bad)
			}
		})
	}
}

func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"task_id":"a","created_at":1.5,"timeout":2}`, `{}`, `[]`, `null`, `{"task_id":1}`, "{\"task_id\":\"\xff\"}",
		`{"timeout":1e999,"task_id":"a"}`, strings.Repeat(`{"a":`, 100),
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, record []byte) {
		info, err := task.Decode(record)
		if err == nil && (info.TaskID == "" || info.Timeout < 0) {
			t.Errorf("accepted %q as %+v", record, info)
		}
	})
}

func TestTraceparent(t *testing.T) {
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	for _, c := range []struct{ trace, span, want string }{
		{trace, span, "00-" + trace + "-" + span + "-01"},
		{trace, "", ""},
		{trace, "fetch", ""}, // Graflow's tracers may write a task id
		{strings.ToUpper(trace), span, ""},
		{strings.Repeat("0", 32), span, ""},
	} {
		if got := (task.Info{TraceID: c.trace, ParentSpanID: c.span}).Traceparent(); got != c.want {
			t.Errorf("%s, %s: %q, want %q", c.trace, c.span, got, c.want)
		}
	}
}

func TestLimit(t *testing.T) {
	own := task.Task{Info: task.Info{Timeout: time.Second}}
	if got := own.Limit(time.Minute); got != time.Second {
		t.Errorf("a record's own timeout: %v", got)
	}
	if got := (task.Task{}).Limit(time.Minute); got != time.Minute {
		t.Errorf("the general one: %v", got)
	}
}

// TestDecodeSpeaksToTheProducer: what is wrong with a record is said of its members.
func TestDecodeSpeaksToTheProducer(t *testing.T) {
	for _, c := range []struct{ record, want string }{
		{`{"task_id":"t","timeout":true}`, "invalid record: timeout is a boolean, and must be a number or null"},
		{`{"task_id":"t","timeout":[1]}`, "invalid record: timeout is an array, and must be a number or null"},
		{`{"task_id":1}`, "invalid record: task_id is a number, and must be a string"},
		{`{"task_id":"t","group_id":{}}`, "invalid record: group_id is an object, and must be a string or null"},
		{`{"task_id":"t","created_at":{"a":1}}`, "invalid record: created_at is an object, and must be a number or null"},
		{`{"task_id":"t",}`, "invalid record: not JSON at byte 16: invalid character '}' looking for beginning of object key string"},
		{`{"task_id":"t"`, "invalid record: not JSON at byte 14: unexpected end of JSON input"},
	} {
		if _, err := task.Decode([]byte(c.record)); err == nil || err.Error() != c.want {
			t.Errorf("%s: %v; want %s", c.record, err, c.want)
		}
	}
}
