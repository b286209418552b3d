package otlp

import (
	"context"

	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
)

// The options below repeat what the exporters read from the environment: the variables
// were checked by package config, which reports those that cannot be used.

// SpanExporter sends spans. It does not connect before the first export. An error
// means that a file cannot be used.
func SpanExporter(o Options) (sdktrace.SpanExporter, *Delivery, error) {
	c, err := o.connect()
	if err != nil {
		return nil, nil, err
	}
	return c.spanExporter()
}

func (c connection) spanExporter() (sdktrace.SpanExporter, *Delivery, error) {
	d := newDelivery(c)
	var client otlptrace.Client
	if c.GRPC {
		options := []otlptracegrpc.Option{
			otlptracegrpc.WithEndpointURL(c.Endpoint), otlptracegrpc.WithHeaders(c.Headers), otlptracegrpc.WithTimeout(c.Timeout),
			otlptracegrpc.WithTLSCredentials(c.credentials()), otlptracegrpc.WithReconnectionPeriod(longestPause),
			otlptracegrpc.WithDialOption(c.dialOptions()...),
			otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: true, InitialInterval: firstPause, MaxInterval: longestPause, MaxElapsedTime: c.Timeout}),
		}
		if c.Gzip {
			options = append(options, otlptracegrpc.WithCompressor("gzip"))
		}
		client = otlptracegrpc.NewClient(options...)
	} else {
		compression := otlptracehttp.NoCompression
		if c.Gzip {
			compression = otlptracehttp.GzipCompression
		}
		client = otlptracehttp.NewClient(
			otlptracehttp.WithEndpointURL(c.Endpoint), otlptracehttp.WithHeaders(c.Headers), otlptracehttp.WithTimeout(c.Timeout),
			otlptracehttp.WithEncoding(otlptracehttp.EncodingProtobuf), otlptracehttp.WithCompression(compression),
			// The client has the files for TLS; those of the variables would be refused beside http://.
			otlptracehttp.WithHTTPClient(c.http), otlptracehttp.WithTLSClientConfig(nil),
			otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: firstPause, MaxInterval: longestPause, MaxElapsedTime: c.Timeout}),
		)
	}
	e, err := otlptrace.New(context.Background(), client)
	return spanExporter{e, d}, d, err
}

// MetricExporter sends metrics. It does not connect before the first export. An error
// means that a file cannot be used.
func MetricExporter(o Options) (sdkmetric.Exporter, *Delivery, error) {
	c, err := o.connect()
	if err != nil {
		return nil, nil, err
	}
	return c.metricExporter()
}

func (c connection) metricExporter() (sdkmetric.Exporter, *Delivery, error) {
	d := newDelivery(c)
	d.metrics = true
	var e sdkmetric.Exporter
	var err error
	if c.GRPC {
		options := []otlpmetricgrpc.Option{
			otlpmetricgrpc.WithEndpointURL(c.Endpoint), otlpmetricgrpc.WithHeaders(c.Headers), otlpmetricgrpc.WithTimeout(c.Timeout),
			otlpmetricgrpc.WithTLSCredentials(c.credentials()), otlpmetricgrpc.WithReconnectionPeriod(longestPause),
			otlpmetricgrpc.WithDialOption(c.dialOptions()...),
			otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{Enabled: true, InitialInterval: firstPause, MaxInterval: longestPause, MaxElapsedTime: c.Timeout}),
		}
		if c.Gzip {
			options = append(options, otlpmetricgrpc.WithCompressor("gzip"))
		}
		e, err = otlpmetricgrpc.New(context.Background(), options...)
	} else {
		compression := otlpmetrichttp.NoCompression
		if c.Gzip {
			compression = otlpmetrichttp.GzipCompression
		}
		e, err = otlpmetrichttp.New(context.Background(),
			otlpmetrichttp.WithEndpointURL(c.Endpoint), otlpmetrichttp.WithHeaders(c.Headers), otlpmetrichttp.WithTimeout(c.Timeout),
			otlpmetrichttp.WithCompression(compression),
			otlpmetrichttp.WithHTTPClient(c.http), otlpmetrichttp.WithTLSClientConfig(nil),
			otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{Enabled: true, InitialInterval: firstPause, MaxInterval: longestPause, MaxElapsedTime: c.Timeout}),
		)
	}
	return metricExporter{e, d}, d, err
}

type spanExporter struct {
	sdktrace.SpanExporter
	delivery *Delivery
}

func (e spanExporter) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	return e.delivery.export(ctx, func(ctx context.Context) error { return e.SpanExporter.ExportSpans(ctx, spans) })
}

type metricExporter struct {
	sdkmetric.Exporter
	delivery *Delivery
}

func (e metricExporter) Export(ctx context.Context, m *metricdata.ResourceMetrics) error {
	return e.delivery.export(ctx, func(ctx context.Context) error { return e.Exporter.Export(ctx, m) })
}

func (c connection) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithUserAgent(c.userAgent()),
		grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			err := invoke(ctx, method, req, reply, cc, opts...)
			if err != nil {
				tryFailed(ctx)
			}
			return err
		}),
	}
}
