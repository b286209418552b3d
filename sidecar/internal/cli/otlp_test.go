package cli

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/otlp"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/tracing"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// Whatever is wrong with OpenTelemetry's variables costs a line, never the tasks.
func TestTelemetry(t *testing.T) {
	at := otlp.Options{Endpoint: "http://127.0.0.1:1/", Timeout: time.Second}
	wanted := &tracing.Options{Options: at, Share: 1}
	for name, c := range map[string]struct {
		traces   *tracing.Options
		mode     config.Mode
		problems []config.TelemetryProblem
		want     bool
		log      string
	}{
		"not wanted":       {nil, config.ModeRPC, nil, false, ""},
		"wanted":           {wanted, config.ModeRPC, nil, true, ""},
		"with a complaint": {wanted, config.ModeExec, []config.TelemetryProblem{{Variable: "OTEL_X", Reason: "odd"}}, true, "variable=OTEL_X reason=odd"},
		"no task is seen":  {wanted, config.ModeSupervise, nil, false, ""},
		"no such file":     {&tracing.Options{Options: otlp.Options{CAFile: "/no/such/file"}}, config.ModeRPC, nil, false, "/no/such/file"},
	} {
		t.Run(name, func(t *testing.T) {
			var log testlog.Buffer
			s := config.Settings{App: app.DefaultConfig(), Traces: c.traces, TelemetryProblems: c.problems}
			s.App.Mode = c.mode
			got, push := telemetry(s, slog.New(slog.NewTextHandler(&log, nil)))
			if push != nil {
				t.Error("metrics are pushed")
			}
			if (got != nil) != c.want {
				t.Errorf("a tracer: %v", got)
			}
			if got != nil {
				got.Shutdown(t.Context())
			}
			if text := log.String(); (text == "") != (c.log == "") || !strings.Contains(text, c.log) {
				t.Errorf("the log: %q, want %q", text, c.log)
			}
		})
	}
}

// Metrics have a sender of their own, also where no task is seen.
func TestPushedMetrics(t *testing.T) {
	for file, want := range map[string]bool{"": true, "/no/such/file": false} {
		var log testlog.Buffer
		s := config.Settings{App: app.DefaultConfig(), Metrics: &otlp.Options{Endpoint: "http://127.0.0.1:1/", CAFile: file}}
		s.App.Mode = config.ModeSupervise
		tracer, push := telemetry(s, slog.New(slog.NewTextHandler(&log, nil)))
		if tracer != nil || (push != nil) != want || strings.Contains(log.String(), "pushing metrics is off") == want {
			t.Errorf("with %q: a tracer %v, a sender %t, the log %q", file, tracer, push != nil, &log)
		}
	}
}
