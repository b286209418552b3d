package workerlog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/lmittmann/tint"

	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/workerlog"
)

// write makes a line of the log from a worker's, without its time.
func write(h func(*bytes.Buffer, *slog.HandlerOptions) slog.Handler, text string, about ...any) string {
	var b bytes.Buffer
	log := slog.New(h(&b, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey && a.Value.Kind() == slog.KindTime {
			return slog.Attr{}
		}
		return a
	}})).With("slot", 1)
	level, attrs := workerlog.Attrs(text, about)
	log.Log(context.Background(), level, "worker stderr", attrs...)
	return strings.TrimSpace(b.String())
}

func jsonLog(b *bytes.Buffer, o *slog.HandlerOptions) slog.Handler { return slog.NewJSONHandler(b, o) }

func TestAWorkersJSONIsMerged(t *testing.T) {
	for _, tt := range []struct{ name, line, want string }{
		{"no JSON", `it went wrong`, `{"level":"INFO","msg":"worker stderr","slot":1,"line":"it went wrong","task_id":"a"}`},
		{"a Go program's", `{"time":"2026-01-01T00:00:00Z","level":"WARN","msg":"slow","rows":3,"took":0.5}`, `{"level":"WARN","msg":"worker stderr","slot":1,"line":"slow","task_id":"a","rows":3,"worker_time":"2026-01-01T00:00:00Z","took":0.5}`},
		{"a Python program's", `{"levelname": "CRITICAL", "message": "no disk", "name": "etl"}`, `{"level":"ERROR+4","msg":"worker stderr","slot":1,"line":"no disk","task_id":"a","name":"etl"}`},
		{"bunyan's", `{"level":50,"msg":"no disk"}`, `{"level":"ERROR","msg":"worker stderr","slot":1,"line":"no disk","task_id":"a"}`},
		{"structlog's", `{"event":"loaded","level":"debug"}`, `{"level":"DEBUG","msg":"worker stderr","slot":1,"line":"loaded","task_id":"a"}`},
		{"pino's", `{"level":40,"msg":"late"}`, `{"level":"WARN","msg":"worker stderr","slot":1,"line":"late","task_id":"a"}`},
		{"an unknown level", `{"level":"loud","msg":"hi"}`, `{"level":"INFO","msg":"worker stderr","slot":1,"line":"hi","task_id":"a","worker_level":"loud"}`},
		{"both words", `{"message":"one","msg":"two"}`, `{"level":"INFO","msg":"worker stderr","slot":1,"line":"one","task_id":"a","worker_msg":"two"}`},
		{"no words", `{"rows":12345678901234567890,"ok":true,"none":null}`, `{"level":"INFO","msg":"worker stderr","slot":1,"task_id":"a","none":null,"ok":true,"rows":12345678901234567890}`},
		{"our names", `{"slot":7,"task_id":"b","worker_slot":8,"line":9,"":1}`, `{"level":"INFO","msg":"worker stderr","slot":1,"task_id":"a","worker_":1,"worker_line":9,"worker_slot":7,"worker_task_id":"b","worker_worker_slot":8}`},
		{"names of no single task", `{"trace_id":"t"}`, `{"level":"INFO","msg":"worker stderr","slot":1,"task_id":"a","trace_id":"t"}`},
		{"what lies deeper", `{"msg":"m","at":{"x":[1,{"y":"<z>"}]}}`, `{"level":"INFO","msg":"worker stderr","slot":1,"line":"m","task_id":"a","at":{"x":[1,{"y":"<z>"}]}}`},
		{"a name twice", `{"a":1,"a":2}`, `{"level":"INFO","msg":"worker stderr","slot":1,"task_id":"a","a":2}`},
		{"cut off", `{"msg":"m`, `{"level":"INFO","msg":"worker stderr","slot":1,"line":"{\"msg\":\"m","task_id":"a"}`},
		{"Python's NaN", `{"msg":NaN}`, `{"level":"INFO","msg":"worker stderr","slot":1,"line":"{\"msg\":NaN}","task_id":"a"}`},
		{"two objects", `{"a":1}{"b":2}`, `{"level":"INFO","msg":"worker stderr","slot":1,"line":"{\"a\":1}{\"b\":2}","task_id":"a"}`},
		{"nothing in it", `{}`, `{"level":"INFO","msg":"worker stderr","slot":1,"line":"{}","task_id":"a"}`},
		{"a list", `[1]`, `{"level":"INFO","msg":"worker stderr","slot":1,"line":"[1]","task_id":"a"}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := write(jsonLog, tt.line, "task_id", "a")
			if !same(t, got, tt.want) {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			if seen := names(t, got); len(seen) != len(set(seen)) {
				t.Errorf("a name twice: %s", got)
			}
		})
	}
}

// same compares two objects without the order of their members.
func same(t *testing.T, a, b string) bool {
	t.Helper()
	norm := func(s string) string {
		m, err := workerlog.Decode([]byte(s))
		if err != nil {
			t.Fatalf("%s: %v", s, err)
		}
		text, _ := json.Marshal(m)
		return string(text)
	}
	return norm(a) == norm(b)
}

// names lists the members of an object as they are written.
func names(t *testing.T, object string) (list []string) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(object))
	if _, err := dec.Token(); err != nil {
		t.Fatal(err)
	}
	for dec.More() {
		name, err := dec.Token()
		var v json.RawMessage
		if err != nil || dec.Decode(&v) != nil {
			t.Fatal(object)
		}
		list = append(list, name.(string))
	}
	return list
}

func set(list []string) map[string]bool {
	m := map[string]bool{}
	for _, s := range list {
		m[s] = true
	}
	return m
}

func TestWhatAWorkerLogsHasAnEnd(t *testing.T) {
	many := map[string]any{"long": strings.Repeat("é", 20<<10), strings.Repeat("k", 1000): 1, "deep": []any{strings.Repeat("x", 20<<10)}}
	for i := range 1000 {
		many[fmt.Sprintf("n%04d", i)] = json.Number(strings.Repeat("9", 1000))
	}
	attrs := workerlog.Merge(nil, many)
	size := 0
	for _, a := range attrs {
		size += len(fmt.Sprint(a))
	}
	if len(attrs) != 2*65 || size > 50<<10 || attrs[128] != "members_left_out" || attrs[129] != 1003-64 {
		t.Errorf("%d attributes, %d bytes, the last is %v=%v", len(attrs)/2, size, attrs[len(attrs)-2], attrs[len(attrs)-1])
	}
	if cut := workerlog.Cut("aé", 2); cut != "a…" {
		t.Errorf("cut within a character: %q", cut)
	}
}

func TestAWorkersJSONIsReadableOnATerminal(t *testing.T) {
	got := write(func(b *bytes.Buffer, o *slog.HandlerOptions) slog.Handler {
		return tint.NewTextHandler(b, &tint.Options{Level: o.Level, NoColor: true, ReplaceAttr: o.ReplaceAttr})
	}, `{"level":"error","msg":"no \u001b[31mdisk","at":{"x":1},"n":5}`)
	for _, want := range []string{"ERR worker stderr", `line="no disk"`, "n=5", `at="{\"x\":1}"`} {
		if !strings.Contains(got, want) {
			t.Errorf("no %s in %q", want, got)
		}
	}
	if strings.Contains(got, "\x1b") || strings.Contains(got, "map[") {
		t.Errorf("%q", got)
	}
}

func FuzzAttrs(f *testing.F) {
	for _, line := range []string{`{"level":30,"msg":"x","slot":1}`, `{"a":{"b":[1,2e400]}}`, `{"":"","worker_":0}`, "plain"} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		got := write(jsonLog, line, "task_id", "a", "delivery", "r.1")
		if seen := names(t, got); len(seen) != len(set(seen)) {
			t.Errorf("a name twice: %s", got)
		}
		if !strings.Contains(got, `"msg":"worker stderr","slot":1`) || !strings.Contains(got, `"task_id":"a","delivery":"r.1"`) {
			t.Errorf("it hides what the sidecar says: %s", got)
		}
	})
}
