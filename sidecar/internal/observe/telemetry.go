package observe

import (
	"context"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/metrics"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/otlp"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/tracing"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Tracer makes a span of every delivery. Its methods may be called concurrently and,
// except for Shutdown, do not wait. *tracing.Tracer is one.
type Tracer interface {
	// Start begins the span of a delivery that was claimed.
	Start(t *task.Task) task.Span
	// Shutdown sends what is still there, for as long as ctx allows. No span begins or
	// ends after it.
	Shutdown(ctx context.Context)
}

// Telemetry sends spans and metrics to OpenTelemetry collectors. A nil field sends
// nothing.
type Telemetry struct {
	Tracer Tracer
	// PushMetrics begins to send what a Gatherer gathers. shutdown sends the last of it,
	// for as long as its context allows, and returns when that has stopped.
	PushMetrics func(g prometheus.Gatherer) (shutdown func(ctx context.Context))
}

// Open makes what a configuration asks for. The settings may be those of a whole
// cluster, so that a file that cannot be used costs the traces or metrics, and not the
// tasks.
func (y *Telemetry) Open(cfg *config.Config) {
	traces := cfg.Traces
	if cfg.Mode == config.ModeSupervise { // there a task is never seen
		traces = nil
	}
	if traces == nil && cfg.PushMetrics == nil {
		return
	}
	o := otlp.Options{Resource: otlp.NewResource(cfg.Version, cfg.WorkerID), Version: cfg.Version, Log: cfg.Log}
	if traces != nil {
		o.Collector = traces.Collector
		t, err := tracing.New(tracing.Options{Options: o, Share: traces.Share, WorkerID: cfg.WorkerID, Queue: cfg.Queue()})
		if err == nil {
			y.Tracer = t
		} else {
			cfg.Log.Warn("tracing is off: a TLS file of the collector cannot be used", "error", err)
		}
	}
	if cfg.PushMetrics != nil {
		o.Collector = *cfg.PushMetrics
		var err error
		if y.PushMetrics, err = metrics.NewPusher(o); err != nil {
			cfg.Log.Warn("pushing metrics is off: a TLS file cannot be used", "error", err)
		}
	}
}

// IsOn reports whether anything is sent.
func (y *Telemetry) IsOn() bool { return y.Tracer != nil || y.PushMetrics != nil }

// Trace begins the span of a delivery; nil without a Tracer.
func (y *Telemetry) Trace(t *task.Task) task.Span {
	if y.Tracer == nil {
		return nil
	}
	return y.Tracer.Start(t)
}

// unreported is the verdict of an outcome that Redis could not be told.
const unreported = "unreported"

// Run sends metrics until soft ends. It then ends the spans of the outcomes that are
// undelivered, and sends the last spans and metrics, beside each other, until hard ends.
func (y *Telemetry) Run(soft, hard context.Context, g prometheus.Gatherer, undelivered func() []task.Outcome) error {
	var last sync.WaitGroup
	if y.PushMetrics != nil {
		shutdown := y.PushMetrics(g)
		last.Go(func() {
			<-soft.Done()
			shutdown(hard)
		})
	}
	<-soft.Done()
	if y.Tracer != nil {
		left := undelivered()
		for i := range left {
			left[i].EndSpan(unreported)
		}
		y.Tracer.Shutdown(hard)
	}
	last.Wait()
	return nil
}
