package otlp

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// grpcCollector takes spans, or hangs until its context ends.
type grpcCollector struct {
	coltracepb.UnimplementedTraceServiceServer
	hangs bool
	got   chan string // a header, and the name of a span
}

func (c *grpcCollector) Export(ctx context.Context, r *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	about, _ := metadata.FromIncomingContext(ctx)
	c.got <- strings.Join(about.Get("x-key"), " ") + " " + r.ResourceSpans[0].ScopeSpans[0].Spans[0].Name
	if c.hangs {
		<-ctx.Done()
	}
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

func startGRPC(t *testing.T, c *grpcCollector) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c.got = make(chan string, 10)
	server := grpc.NewServer()
	coltracepb.RegisterTraceServiceServer(server, c)
	over := make(chan struct{})
	go func() {
		defer close(over)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-over
	})
	return l.Addr().String()
}

// A file for TLS among the variables does not make http:// a TLS connection.
func TestSpansOverGRPC(t *testing.T) {
	t.Setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", "/no/such/file")
	c := &grpcCollector{}
	var log testlog.Buffer
	e, d, err := SpanExporter(Options{
		Collector: config.Collector{
			Endpoint: "http://" + startGRPC(t, c), GRPC: true, Headers: map[string]string{"x-key": "a key"}, Gzip: true,
			Timeout: time.Minute,
		},
		Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	_ = e.ExportSpans(t.Context(), someSpans)
	d.Stop(t.Context(), e.Shutdown)
	if got := <-c.got; got != "a key a span" || log.String() != "" {
		t.Errorf("got %q, the log %q", got, &log)
	}
}

// The stop has no more time: the export is cut, and said to be lost.
func TestAGRPCCollectorThatHangs(t *testing.T) {
	c := &grpcCollector{hangs: true}
	var log testlog.Buffer
	e, d, err := SpanExporter(Options{Collector: config.Collector{Endpoint: "http://" + startGRPC(t, c), GRPC: true, Timeout: time.Hour}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = e.ExportSpans(context.Background(), someSpans)
	}()
	<-c.got
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	d.Stop(ended, e.Shutdown)
	<-done
	if text := log.String(); strings.Count(text, "traces cannot be delivered") != 1 {
		t.Errorf("the log: %q", text)
	}
}

// No collector listens: a stop does not wait for further tries.
func TestAGRPCCollectorThatIsNotThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	var log testlog.Buffer
	e, d, err := SpanExporter(Options{Collector: config.Collector{Endpoint: "http://" + addr, GRPC: true, Timeout: time.Hour}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = e.ExportSpans(context.Background(), someSpans)
	}()
	d.Stop(t.Context(), func(ctx context.Context) error {
		<-done // as the SDK does
		return e.Shutdown(ctx)
	})
	if text := log.String(); strings.Count(text, "traces cannot be delivered") != 1 {
		t.Errorf("the log: %q", text)
	}
}
