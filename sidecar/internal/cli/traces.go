package cli

import (
	"log/slog"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/tracing"
	"github.com/graflow/graflow-sidecar/sidecar/internal/version"
)

// tracer makes the traces that OpenTelemetry's variables ask for; nil for none. The
// variables may be those of a whole cluster, so that what is wrong with them costs
// the traces and not the tasks.
func tracer(s config.Settings, log *slog.Logger) config.Tracer {
	for _, p := range s.TraceProblems {
		log.Warn("opentelemetry variable cannot be used", "variable", p.Variable, "reason", p.Reason)
	}
	if s.Traces == nil || s.App.Mode == config.ModeSupervise { // there a task is never seen
		return nil
	}
	o := *s.Traces
	o.Version, o.WorkerID, o.Queue, o.Log = version.Number, s.App.WorkerID, s.App.KeyPrefix+":queue", log
	t, err := tracing.New(o)
	if err != nil {
		log.Warn("tracing is off: a TLS file of the collector cannot be used", "error", err)
		return nil
	}
	return t
}
