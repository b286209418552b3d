// Package tracing makes a span of every delivery and sends it to a collector with
// OpenTelemetry's SDK. The pipeline never waits for it: spans go into a bounded queue,
// and what does not fit is dropped.
package tracing

import (
	"context"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/otlp"
)

// Options say where spans go and what they say of us.
type Options struct {
	otlp.Options
	// Share of the traces that is taken, from 0 to 1. It is the same traces
	// everywhere.
	Share float64

	WorkerID string
	Queue    string // its key in Redis
}

// Tracer makes spans. Its methods may be called concurrently.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	delivery *otlp.Delivery
	worker   string
	queue    string
}

// New returns a Tracer. It does not connect to the collector yet. An error means
// that a file cannot be used.
func New(o Options) (*Tracer, error) {
	exporter, delivery, err := otlp.SpanExporter(o.Options)
	if err != nil {
		return nil, err
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter), sdktrace.WithResource(o.Resource),
		sdktrace.WithIDGenerator(ids{}), sdktrace.WithSampler(share(o.Share)),
	)
	return &Tracer{
		provider: provider, delivery: delivery, worker: text(o.WorkerID), queue: text(o.Queue),
		tracer: provider.Tracer("github.com/graflow/graflow-sidecar",
			trace.WithInstrumentationVersion(o.Version), trace.WithSchemaURL(semconv.SchemaURL)),
	}, nil
}

// Shutdown sends what is still there, for as long as ctx allows, and returns
// when everything has stopped.
func (t *Tracer) Shutdown(ctx context.Context) { t.delivery.Stop(ctx, t.provider.Shutdown) }
