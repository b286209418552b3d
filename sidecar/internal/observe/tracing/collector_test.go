package tracing_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/otlp"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/tracing"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// collector takes traces as OpenTelemetry's does.
type collector struct {
	*httptest.Server
	mu       sync.Mutex
	requests []*http.Request
	resource map[string]string
	spans    []*tracepb.Span
	answer   func(n int, w http.ResponseWriter) bool // of the nth request; false: go on
}

func collect(t *testing.T, start func(http.Handler) *httptest.Server) *collector {
	t.Helper()
	c := &collector{}
	c.Server = start(c)
	t.Cleanup(c.Close)
	return c
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, r)
	if c.answer != nil && c.answer(len(c.requests), w) {
		return
	}
	body, err := io.ReadAll(r.Body)
	if err == nil && r.Header.Get("Content-Encoding") == "gzip" {
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
			body, err = io.ReadAll(z)
		}
	}
	var data tracepb.TracesData
	if err == nil {
		err = proto.Unmarshal(body, &data)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	for _, rs := range data.ResourceSpans {
		c.resource = attributes(rs.Resource.Attributes)
		for _, ss := range rs.ScopeSpans {
			c.spans = append(c.spans, ss.Spans...)
		}
	}
}

func (c *collector) got() []*tracepb.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spans
}

// attributes writes every value as text.
func attributes(list []*commonpb.KeyValue) map[string]string {
	m := map[string]string{}
	for _, kv := range list {
		switch v := kv.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			m[kv.Key] = v.StringValue
		default:
			m[kv.Key] = strings.TrimSpace(strings.SplitN(kv.Value.String(), ":", 2)[1])
		}
	}
	return m
}

// start makes a tracer for the collector.
func start(t *testing.T, url string, change func(*tracing.Options)) (*tracing.Tracer, *testlog.Buffer) {
	t.Helper()
	for _, name := range []string{"OTEL_RESOURCE_ATTRIBUTES", "OTEL_SERVICE_NAME"} {
		t.Setenv(name, "")
	}
	log := &testlog.Buffer{}
	o := tracing.Options{
		Share: 1, WorkerID: "w", Queue: "p:queue",
		Options: otlp.Options{
			Collector: config.Collector{Endpoint: url + "/v1/traces", Timeout: 10 * time.Second}, Resource: otlp.NewResource("1.2.3", "w"), Version: "1.2.3",
			Log: slog.New(slog.NewTextHandler(log, nil)),
		},
	}
	if change != nil {
		change(&o)
	}
	tracer, err := tracing.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return tracer, log
}
