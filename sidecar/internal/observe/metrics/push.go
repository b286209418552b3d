package metrics

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	bridge "go.opentelemetry.io/contrib/bridges/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/otlp"
)

// NewPusher returns a function that sends what Prometheus would scrape, under the same
// names, to an OpenTelemetry collector: once a minute, or as
// OTEL_METRIC_EXPORT_INTERVAL says. shutdown sends the last of it, for as long as its
// context allows. An error means that a file cannot be used.
func NewPusher(o otlp.Options) (push func(prometheus.Gatherer) (shutdown func(context.Context)), err error) {
	exporter, delivery, err := otlp.MetricExporter(o)
	if err != nil {
		return nil, err
	}
	return func(g prometheus.Gatherer) func(context.Context) {
		reader := sdkmetric.NewPeriodicReader(exporter, sdkmetric.WithProducer(bridge.NewMetricProducer(bridge.WithGatherer(g))))
		provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader), sdkmetric.WithResource(o.Resource))
		return func(ctx context.Context) { delivery.Stop(ctx, provider.Shutdown) }
	}, nil
}

// Gatherer is what the metrics are read from.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }
