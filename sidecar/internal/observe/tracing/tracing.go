// Package tracing makes a span of every delivery and sends it to a collector,
// with OpenTelemetry: OTLP over HTTP. It is the only package that knows
// OpenTelemetry. The pipeline never waits for it: spans go into a bounded queue,
// and what does not fit is dropped.
package tracing

import (
	"context"
	"crypto/rand"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// Options say where spans go and what they say of us. What OpenTelemetry's SDK
// reads from the environment itself is not here: the resource's attributes, the
// bounds of the queue (OTEL_BSP_…) and of a span (OTEL_SPAN_…).
type Options struct {
	Endpoint string // the URL that spans are sent to
	Headers  map[string]string
	Timeout  time.Duration // of one batch, with all its tries
	Gzip     bool
	// Files in PEM, where TLS needs them.
	CAFile, CertFile, KeyFile string
	// Share of the traces that is taken, from 0 to 1. It is the same traces
	// everywhere.
	Share float64

	Version  string
	WorkerID string
	Queue    string // its key in Redis
	Log      *slog.Logger
}

// Tracer makes spans. Its methods may be called concurrently.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	client   *client
	worker   string
	queue    string
}

// New returns a Tracer. It does not speak to the collector yet. An error means
// that a file cannot be used.
func New(o Options) (*Tracer, error) {
	c, err := newClient(o)
	if err != nil {
		return nil, err
	}
	// Whatever else the SDK complains of is nothing that an operator must see; by
	// itself it would write to our stderr.
	otel.SetLogger(logr.FromSlogHandler(quiet{o.Log.Handler()}))
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { o.Log.Debug("opentelemetry error", "error", err) }))
	// Detectors that fail leave out what they would have told.
	described, _ := resource.New(context.Background(),
		resource.WithTelemetrySDK(), resource.WithHost(),
		resource.WithAttributes(
			semconv.ServiceName("graflow-sidecar"), semconv.ServiceVersion(o.Version), semconv.ServiceInstanceID(text(o.WorkerID)+"-"+rand.Text()),
		),
		resource.WithFromEnv(), // OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME beat ours
	)
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(otlptrace.NewUnstarted(c)),
		sdktrace.WithIDGenerator(ids{}), sdktrace.WithSampler(share(o.Share)), sdktrace.WithResource(described),
	)
	return &Tracer{
		provider: provider, client: c, worker: text(o.WorkerID), queue: text(o.Queue),
		tracer: provider.Tracer("github.com/graflow/graflow-sidecar",
			trace.WithInstrumentationVersion(o.Version), trace.WithSchemaURL(semconv.SchemaURL)),
	}, nil
}

// Shutdown sends what is still there, for as long as ctx allows, and returns
// when everything has stopped. That a collector is not there is no error: it was
// said once.
func (t *Tracer) Shutdown(ctx context.Context) {
	defer t.client.close()
	t.client.last() // no second tries from now on
	// The SDK would return at the end of ctx and leave its goroutine behind. So it
	// gets no end, and the client that it waits for does.
	defer context.AfterFunc(ctx, t.client.cut)()
	_ = t.provider.Shutdown(context.Background())
}

// quiet makes every line one for debugging.
type quiet struct{ slog.Handler }

func (q quiet) Enabled(ctx context.Context, _ slog.Level) bool {
	return q.Handler.Enabled(ctx, slog.LevelDebug)
}

func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return q.Handler.Handle(ctx, r)
}

func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler { return quiet{q.Handler.WithAttrs(attrs)} }
func (q quiet) WithGroup(name string) slog.Handler       { return quiet{q.Handler.WithGroup(name)} }
