package cli

import (
	"context"
	"log/slog"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/metrics"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/otlp"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/tracing"
	"github.com/graflow/graflow-sidecar/sidecar/internal/version"
)

// telemetry is what OpenTelemetry's variables ask for: a maker of traces, and a sender
// of metrics; nil for none. The variables may be those of a whole cluster, so that
// what is wrong with them costs the traces and metrics, and not the tasks.
func telemetry(s config.Settings, log *slog.Logger) (tracer config.Tracer, push func(prometheus.Gatherer) func(context.Context)) {
	for _, p := range s.TelemetryProblems {
		log.Warn("opentelemetry variable cannot be used", "variable", p.Variable, "reason", p.Reason)
	}
	traces := s.Traces
	if s.App.Mode == config.ModeSupervise { // there a task is never seen
		traces = nil
	}
	if traces == nil && s.Metrics == nil {
		return nil, nil
	}
	identity := otlp.NewResource(version.Number, s.App.WorkerID)
	if traces != nil {
		o := *traces
		o.Resource, o.Version, o.Log = identity, version.Number, log
		o.WorkerID, o.Queue = s.App.WorkerID, s.App.KeyPrefix+":queue"
		if t, err := tracing.New(o); err == nil {
			tracer = t
		} else {
			log.Warn("tracing is off: a TLS file of the collector cannot be used", "error", err)
		}
	}
	if s.Metrics != nil {
		o := *s.Metrics
		o.Resource, o.Version, o.Log = identity, version.Number, log
		var err error
		if push, err = metrics.NewPusher(o); err != nil {
			log.Warn("pushing metrics is off: a TLS file cannot be used", "error", err)
		}
	}
	return tracer, push
}
