package tracing_test

import (
	"context"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/otlp"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/tracing"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

const (
	traceID  = "0af7651916cd43dd8448eb211c80319c"
	parentID = "b7ad6b7169203331"
)

func run(tracer *tracing.Tracer, tk task.Task, kind task.Conclusion, message string) (traceparent string) {
	tk.Span = tracer.Start(&tk)
	traceparent = tk.Traceparent()
	o := task.Outcome{Task: tk, Conclusion: kind, Message: message, StartedAt: tk.ClaimedAt.Add(time.Second), EndedAt: tk.ClaimedAt.Add(3 * time.Second)}
	tk.Span.End(&o, "completed")
	return traceparent
}

func TestTheSpanOfATask(t *testing.T) {
	c := collect(t, httptest.NewServer)
	tracer, log := start(t, c.URL, nil)
	t.Setenv("OTEL_SERVICE_NAME", "ignored: it is read at the start")
	claimed := time.Unix(1732335602, 500e6)
	traceparent := run(tracer, task.Task{
		Delivery: "run.7", Record: []byte("0123456789"), Attempt: 2, ClaimedAt: claimed,
		Info: task.Info{TaskID: "fetch", SessionID: "s", GroupID: "g", TraceID: traceID, ParentSpanID: parentID, CreatedAt: "1732335600.25"},
	}, task.Failed, "no luck")
	tracer.Shutdown(t.Context())
	spans := c.got()
	if len(spans) != 1 {
		t.Fatalf("%d spans\n%s", len(spans), log)
	}
	s := spans[0]
	if want := "00-" + traceID + "-" + hex.EncodeToString(s.SpanId) + "-01"; traceparent != want {
		t.Errorf("the worker got %s, want %s", traceparent, want)
	}
	if hex.EncodeToString(s.TraceId) != traceID || hex.EncodeToString(s.ParentSpanId) != parentID {
		t.Errorf("trace %x, parent %x", s.TraceId, s.ParentSpanId)
	}
	if s.Kind != tracepb.Span_SPAN_KIND_CONSUMER || s.Name != "process p:queue" {
		t.Errorf("%v %q", s.Kind, s.Name)
	}
	if s.Status.Code != tracepb.Status_STATUS_CODE_ERROR || s.Status.Message != "no luck" {
		t.Errorf("status %v", s.Status)
	}
	if began, ended := time.Unix(0, int64(s.StartTimeUnixNano)), time.Unix(0, int64(s.EndTimeUnixNano)); !began.Equal(claimed) || ended.Sub(began) != 3*time.Second {
		t.Errorf("from %v to %v", began, ended)
	}
	got := attributes(s.Attributes)
	for name, want := range map[string]string{
		"messaging.system": "redis", "messaging.operation.name": "process", "messaging.operation.type": "process",
		"messaging.destination.name": "p:queue", "messaging.client.id": "w", "messaging.message.id": "fetch",
		"messaging.message.conversation_id": "s", "messaging.message.body.size": "10",
		"graflow.group.id": "g", "graflow.delivery": "run.7", "graflow.attempt": "2",
		"graflow.outcome": "failed", "graflow.verdict": "completed", "error.type": "failed",
	} {
		if got[name] != want {
			t.Errorf("%s is %q, want %q", name, got[name], want)
		}
	}
	var events []string
	for _, e := range s.Events {
		events = append(events, fmt.Sprint(e.Name, " ", time.Unix(0, int64(e.TimeUnixNano)).Sub(claimed), " ", attributes(e.Attributes)))
	}
	want := "graflow.queue.wait 0s map[graflow.queue.created_at:2024-11-23T04:20:00.25Z graflow.queue.wait_seconds:2.25], graflow.task.started 1s map[]"
	if text := strings.Join(events, ", "); text != want {
		t.Errorf("events %s\nwant   %s", text, want)
	}
	if r := c.resource; r["service.name"] != "graflow-sidecar" || r["service.version"] != "1.2.3" || !strings.HasPrefix(r["service.instance.id"], "w-") || r["host.name"] == "" {
		t.Errorf("resource %v", r)
	}
}

// A wait that is not known is not 0.
func TestTheWaitOfARecordAheadOfTime(t *testing.T) {
	c := collect(t, httptest.NewServer)
	tracer, _ := start(t, c.URL, nil)
	claimed := time.Unix(1_732_335_600, 0)
	for _, createdAt := range []string{"1732335590", "1732335599000", "1732335700", "1.5", ""} {
		run(tracer, task.Task{Record: []byte("{}"), ClaimedAt: claimed, Info: task.Info{TaskID: createdAt, CreatedAt: createdAt}}, task.Succeeded, "")
	}
	tracer.Shutdown(t.Context())
	got := map[string]string{}
	for _, s := range c.got() {
		wait := "none"
		for _, e := range s.Events {
			if e.Name == "graflow.queue.wait" {
				wait = attributes(e.Attributes)["graflow.queue.wait_seconds"]
			}
		}
		got[attributes(s.Attributes)["messaging.message.id"]] = wait
	}
	if want := map[string]string{"1732335590": "10", "1732335599000": "1", "1732335700": "none", "1.5": "none", "": "none"}; !maps.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestTheOutcomesStatus(t *testing.T) {
	c := collect(t, httptest.NewServer)
	tracer, _ := start(t, c.URL, nil)
	kinds := []task.Conclusion{task.Succeeded, task.Failed, task.Returned, task.Lost, task.Retry, task.Dead}
	for _, kind := range kinds {
		run(tracer, task.Task{Record: []byte(kind.String()), ClaimedAt: time.Now()}, kind, "\xff"+strings.Repeat("é", 5000))
	}
	tracer.Shutdown(t.Context())
	for _, s := range c.got() {
		outcome := attributes(s.Attributes)["graflow.outcome"]
		failed := s.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR
		if want := outcome != "succeeded" && outcome != "returned"; failed != want {
			t.Errorf("%s: status %v", outcome, s.Status)
		}
		if len(s.Status.GetMessage()) > 1030 {
			t.Errorf("%s: a description of %d bytes", outcome, len(s.Status.Message))
		}
	}
	if n := len(c.got()); n != len(kinds) {
		t.Errorf("%d spans", n)
	}
}

// Graflow's ids, those of others, and none.
func TestWhereASpanBelongs(t *testing.T) {
	c := collect(t, httptest.NewServer)
	tracer, _ := start(t, c.URL, nil)
	const uuid = "5D5A0A34-8f0f-4c38-a7a5-5d0b5f0f6f3b"
	for _, tt := range []struct {
		name, trace, parent   string
		wantTrace, wantParent string
	}{
		{"a span's id", traceID, parentID, traceID, parentID},
		{"in capitals", strings.ToUpper(traceID), strings.ToUpper(parentID), traceID, parentID},
		{"no parent", traceID, "", traceID, ""},
		{"a task's id", traceID, "fetch", traceID, ""},
		{"a parent of zeros", traceID, strings.Repeat("0", 16), traceID, ""},
		{"a UUID", uuid, parentID, strings.ToLower(strings.ReplaceAll(uuid, "-", "")), parentID},
		{"any text", "demo", parentID, "2a97516c354b68848cdbd8f54a226a0a", ""}, // printf demo | sha256sum
		{"a trace of zeros", strings.Repeat("0", 32), "", "84e0c0eafaa95a34c293f278ac52e45c", ""},
		{"nothing", "", parentID, "eb92a16e9deb5c3a564c24a983918754", ""},
	} {
		tk := task.Task{Delivery: tt.name, Record: []byte("record of " + tt.name), ClaimedAt: time.Now(), Info: task.Info{TraceID: tt.trace, ParentSpanID: tt.parent}}
		traceparent := run(tracer, tk, task.Succeeded, "")
		if !strings.HasPrefix(traceparent, "00-"+tt.wantTrace+"-") {
			t.Errorf("%s: traceparent %s, want trace %s", tt.name, traceparent, tt.wantTrace)
		}
		t.Cleanup(func() {
			for _, s := range c.got() {
				if attributes(s.Attributes)["graflow.delivery"] == tt.name && hex.EncodeToString(s.ParentSpanId) != tt.wantParent {
					t.Errorf("%s: parent %x, want %s", tt.name, s.ParentSpanId, tt.wantParent)
				}
			}
		})
	}
	tracer.Shutdown(t.Context())
	if n := len(c.got()); n != 9 {
		t.Errorf("%d spans", n)
	}
}

// The share holds for ids of which some bits are always the same, too.
func TestTheShare(t *testing.T) {
	c := collect(t, httptest.NewServer)
	tracer, _ := start(t, c.URL, func(o *tracing.Options) { o.Share = 0.25 })
	const all = 2000
	taken := 0
	for i := range all {
		id := fmt.Sprintf("%08x%04x4%03x8%03x%012x", i, 0, 0, 0, 1) // a UUID's form
		tk := task.Task{ClaimedAt: time.Now(), Info: task.Info{TraceID: id, ParentSpanID: parentID}}
		first, second := run(tracer, tk, task.Succeeded, ""), run(tracer, tk, task.Succeeded, "")
		if first[len(first)-2:] != second[len(second)-2:] {
			t.Errorf("two spans of one trace: %s %s", first, second)
		}
		if strings.HasSuffix(first, "-01") {
			taken++
		}
	}
	if taken < all/5 || taken > all*3/10 {
		t.Errorf("%d of %d traces were taken", taken, all)
	}
	tracer.Shutdown(t.Context())
	if n := len(c.got()); n == 0 || n > 2*taken {
		t.Errorf("%d spans of %d traces", n, taken)
	}
}

func TestHeadersCompressionAndTLS(t *testing.T) {
	c := collect(t, httptest.NewTLSServer)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	tracer, log := start(t, c.URL, func(o *tracing.Options) {
		o.CAFile, o.Gzip, o.Headers = ca, true, map[string]string{"authorization": "Bearer x"}
	})
	run(tracer, task.Task{ClaimedAt: time.Now()}, task.Succeeded, "")
	tracer.Shutdown(t.Context())
	if len(c.got()) != 1 {
		t.Fatalf("%d spans\n%s", len(c.got()), log)
	}
	r := c.requests[0]
	if r.URL.Path != "/v1/traces" || r.Header.Get("Authorization") != "Bearer x" || r.Header.Get("Content-Type") != "application/x-protobuf" || !strings.HasPrefix(r.UserAgent(), "graflow-sidecar/") {
		t.Errorf("%s %v", r.URL, r.Header)
	}
}

func TestFilesThatCannotBeUsed(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, o := range []config.Collector{{CAFile: empty}, {CAFile: empty + "-not"}, {CertFile: empty, KeyFile: empty}} {
		if _, err := tracing.New(tracing.Options{Options: otlp.Options{Collector: o}}); err == nil {
			t.Errorf("%+v: no error", o)
		}
	}
}

// A collector that does not answer holds up neither the tasks nor the stop, and
// what it does not take is dropped.
func TestACollectorThatHangs(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
	release := make(chan struct{})
	hung := make(chan struct{}, 1000)
	c := collect(t, func(http.Handler) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			hung <- struct{}{}
			<-release
		}))
	})
	defer close(release)
	tracer, log := start(t, c.URL, nil)
	for range 5000 { // more than twice the queue
		run(tracer, task.Task{ClaimedAt: time.Now()}, task.Succeeded, "")
	}
	<-hung
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	tracer.Shutdown(ctx)
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, log)
	}
}

func TestACollectorThatIsNotThere(t *testing.T) {
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "1")
	c := httptest.NewServer(nil)
	c.Close()
	tracer, log := start(t, c.URL, func(o *tracing.Options) { o.Timeout = time.Millisecond })
	for range 3 {
		run(tracer, task.Task{ClaimedAt: time.Now()}, task.Succeeded, "")
	}
	tracer.Shutdown(t.Context()) // it has no end: nothing is tried twice now
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "traces cannot be delivered and are dropped") {
		t.Errorf("the log:\n%s", text)
	}
}
