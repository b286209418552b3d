package report_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// TestALineForEachTask: a search for any name of a task finds its line, and the line
// says where the task ran. A success is logged at level debug, since there may be a
// hundred thousand of them a second.
func TestALineForEachTask(t *testing.T) {
	started := time.Unix(1732335600, 0)
	full := task.Task{
		Delivery: "w.1", Attempt: 2,
		Info: task.Info{TaskID: "a", SessionID: "s", GroupID: "g", TraceID: "t"},
	}
	for _, tt := range []struct {
		name string
		o    task.Outcome
		want map[string]any
	}{
		{"failed", task.Outcome{Task: full, Conclusion: task.Failed, Reason: "ValueError", Message: "no", Stack: "File …\nValueError: no", Slot: 3, PID: 42, StartedAt: started, EndedAt: started.Add(1500 * time.Millisecond)}, map[string]any{
			"level": "WARN", "msg": "task failed", "task_id": "a", "delivery": "w.1", "session_id": "s", "group_id": "g", "trace_id": "t",
			"attempt": 2.0, "outcome": "failed", "verdict": "completed", "slot": 3.0, "pid": 42.0, "duration": "1.5s", "error": "no", "reason": "ValueError",
			"stack": "File …\nValueError: no",
		}},
		{"succeeded", task.Outcome{Task: task.Task{Delivery: "w.2", Attempt: 1, Info: task.Info{TaskID: "b"}}, Conclusion: task.Succeeded, PID: 42, StartedAt: started, EndedAt: started.Add(time.Microsecond)}, map[string]any{
			"level": "DEBUG", "msg": "task succeeded", "task_id": "b", "delivery": "w.2", "attempt": 1.0,
			"outcome": "succeeded", "verdict": "completed", "slot": 0.0, "pid": 42.0, "duration": "1µs",
		}},
		{"never started", task.Outcome{Task: task.Task{Delivery: "w.3", Attempt: 1}, Conclusion: task.Dead, Reason: "invalid", Message: "no task_id", EndedAt: started}, map[string]any{
			"level": "ERROR", "msg": "record put into the dead letters", "task_id": "", "delivery": "w.3", "attempt": 1.0,
			"outcome": "dead", "verdict": "completed", "error": "no task_id", "reason": "invalid",
		}},
		{"set aside", task.Outcome{Task: task.Task{Delivery: "w.4", Attempt: 3}, Conclusion: task.Returned, Isolate: true, Message: "not started", EndedAt: started}, map[string]any{
			"level": "INFO", "msg": "task that must run alone is set aside", "task_id": "", "delivery": "w.4", "attempt": 3.0,
			"outcome": "returned", "verdict": "completed", "error": "not started",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			ctx, stop := context.WithCancel(t.Context())
			box := report.NewBuffer()
			loop := &report.Loop{
				Buffer: box, OnSettled: func([]task.Outcome, []report.Verdict) { stop() },
				Store: &store{applied: map[string]int{}, verdict: func(task.Outcome) report.Verdict { return "completed" }},
				Log:   slog.New(slog.NewJSONHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug})),
			}
			box.Add(tt.o)
			if err := loop.Run(ctx, t.Context()); err != nil {
				t.Fatal(err)
			}
			var got map[string]any
			if err := json.Unmarshal(b.Bytes(), &got); err != nil {
				t.Fatalf("%v: %s", err, b.String())
			}
			delete(got, "time")
			if !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got  %v\nwant %v", got, tt.want)
			}
		})
	}
}
