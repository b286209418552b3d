package app_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// collector keeps the spans that it is sent.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*tracepb.Span
}

func newCollector(t *testing.T) *collector {
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var data tracepb.TracesData
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = proto.Unmarshal(body, &data)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, rs := range data.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				c.spans = append(c.spans, ss.Spans...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// of lists the spans of a task by their attempt.
func (c *collector) of(taskID string) (spans []*tracepb.Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if attribute(s, "messaging.message.id") == taskID {
			spans = append(spans, s)
		}
	}
	slices.SortFunc(spans, func(a, b *tracepb.Span) int { return int(a.StartTimeUnixNano) - int(b.StartTimeUnixNano) })
	return spans
}

func attribute(s *tracepb.Span, name string) string {
	for _, kv := range s.Attributes {
		if kv.Key == name {
			return kv.Value.GetStringValue()
		}
	}
	return ""
}

func (c *collector) traces() *config.Traces {
	return &config.Traces{Collector: config.Collector{Endpoint: c.URL, Timeout: 10 * time.Second}, Share: 1}
}

func traced(t *testing.T, c *collector, more func(*config.Config)) *bundle {
	t.Helper()
	return setup(t, func(cfg *config.Config) {
		cfg.Traces = c.traces()
		more(cfg)
	})
}

const traceID, parentID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"

// pushTraced enqueues a record that says whose child it is.
func (b *bundle) pushTraced(id, do string) {
	b.t.Helper()
	record := fmt.Sprintf(`{"task_id":%q,"session_id":%q,"trace_id":%q,"parent_span_id":%q,"created_at":1732335600.5,"do":%q}`, id, b.prefix, traceID, parentID, do)
	if err := b.rdb.RPush(b.t.Context(), b.prefix+":queue", record).Err(); err != nil {
		b.t.Fatal(err)
	}
}

// The worker's span has the task's as its parent, and that has the one which the record
// names. What has ended before the stop is with the collector after it.
func TestTracesFromEndToEnd(t *testing.T) {
	for _, mode := range []config.Mode{config.ModeRPC, config.ModeExec} {
		t.Run(string(mode), func(t *testing.T) {
			c := newCollector(t)
			b := traced(t, c, func(cfg *config.Config) {
				if cfg.Mode = mode; mode == config.ModeExec {
					cfg.Worker.Command = []string{"sh", "-c", `printf %s "$TRACEPARENT"`}
				}
			})
			b.pushTraced("a", "trace")
			await(t, "the result", func() bool { return b.result(b.prefix, "a") != "" })
			if err := b.app.Close(); err != nil {
				t.Fatal(err)
			}
			spans := c.of("a")
			if len(spans) != 1 {
				t.Fatalf("%d spans", len(spans))
			}
			s := spans[0]
			if hex.EncodeToString(s.TraceId) != traceID || hex.EncodeToString(s.ParentSpanId) != parentID {
				t.Errorf("trace %x, parent %x", s.TraceId, s.ParentSpanId)
			}
			var worker string
			if err := json.Unmarshal([]byte(b.result(b.prefix, "a")), &worker); err != nil {
				t.Fatal(err)
			}
			if want := "00-" + traceID + "-" + hex.EncodeToString(s.SpanId) + "-01"; worker != want {
				t.Errorf("the worker got %q, want %q", worker, want)
			}
			if v := attribute(s, "graflow.verdict"); v != "completed-no-group" {
				t.Errorf("verdict %q", v)
			}
			if len(s.Events) != 2 || s.Events[1].TimeUnixNano < s.StartTimeUnixNano || s.Events[1].TimeUnixNano > s.EndTimeUnixNano {
				t.Errorf("events %v between %d and %d", s.Events, s.StartTimeUnixNano, s.EndTimeUnixNano)
			}
		})
	}
}

// Each attempt has a span of its own, beside the others, and a dead letter too.
func TestTheSpansOfATaskThatKillsItsWorker(t *testing.T) {
	c := newCollector(t)
	b := traced(t, c, func(cfg *config.Config) { cfg.MaxAttempts = 2 })
	b.pushTraced("poison", "die")
	record := `{"trace_id":"` + traceID + `","session_id":7}`
	if err := b.rdb.RPush(t.Context(), b.prefix+":queue", record).Err(); err != nil {
		t.Fatal(err)
	}
	await(t, "two dead letters", func() bool {
		n, _ := b.rdb.ZCard(t.Context(), b.prefix+":sidecar:dead").Result()
		return n == 2
	})
	if err := b.app.Close(); err != nil {
		t.Fatal(err)
	}
	var outcomes []string
	ids := map[string]bool{}
	for _, s := range c.of("poison") {
		outcomes = append(outcomes, attribute(s, "graflow.outcome"))
		ids[string(s.SpanId)] = true
		if hex.EncodeToString(s.ParentSpanId) != parentID || s.Status.Code != tracepb.Status_STATUS_CODE_ERROR {
			t.Errorf("parent %x, status %v", s.ParentSpanId, s.Status)
		}
	}
	if !slices.Equal(outcomes, []string{"lost", "dead"}) || len(ids) != 2 {
		t.Errorf("outcomes %v of %d spans", outcomes, len(ids))
	}
	if invalid := c.of(""); len(invalid) != 1 || attribute(invalid[0], "error.type") != "invalid" {
		t.Errorf("the record that cannot be read: %v", invalid)
	}
}

// What Redis could not be told has ended all the same.
func TestTracesOfAStopWithoutRedis(t *testing.T) {
	t.Parallel()
	c := newCollector(t)
	instance := redistest.Start(t)
	b := &bundle{t: t, rdb: instance.Client(), prefix: "p", log: &testlog.Buffer{}}
	cfg := settings(t, instance.URL, b.prefix, b.log)
	cfg.ShutdownTimeout, cfg.Traces = 3*time.Second, c.traces()
	b.app = start(t, cfg, b.log)
	gate := t.TempDir() + "/gate"
	b.push(job{TaskID: "late", SessionID: "s", Do: "gate", Path: gate})
	await(t, "the task", func() bool { _, err := os.Stat(gate + ".started"); return err == nil })
	instance.Kill()
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, "the outcome", func() bool { return b.app.Status().Unreported == 1 })
	_ = b.app.Close()
	if spans := c.of("late"); len(spans) != 1 || attribute(spans[0], "graflow.verdict") != "unreported" || attribute(spans[0], "graflow.outcome") != "succeeded" {
		t.Errorf("%v", spans)
	}
}
