package observe

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// open makes the telemetry of a configuration that change has changed.
func open(change func(*config.Config)) (y Telemetry, log *testlog.Buffer) {
	log = &testlog.Buffer{}
	cfg := config.Default()
	cfg.Log = slog.New(slog.NewTextHandler(log, nil))
	change(&cfg)
	y.Open(&cfg)
	return y, log
}

// A collector that cannot be used costs a line in the log, never the tasks.
func TestTracesOfAConfiguration(t *testing.T) {
	at := config.Collector{Endpoint: "http://127.0.0.1:1/", Timeout: time.Second}
	wanted := &config.Traces{Collector: at, Share: 1}
	for name, c := range map[string]struct {
		traces *config.Traces
		mode   config.Mode
		want   bool
		log    string
	}{
		"not wanted":      {nil, config.ModeRPC, false, ""},
		"wanted":          {wanted, config.ModeRPC, true, ""},
		"of programs":     {wanted, config.ModeExec, true, ""},
		"no task is seen": {wanted, config.ModeSupervise, false, ""},
		"no such file":    {&config.Traces{Collector: config.Collector{CAFile: "/no/such/file"}}, config.ModeRPC, false, "/no/such/file"},
	} {
		t.Run(name, func(t *testing.T) {
			y, log := open(func(cfg *config.Config) { cfg.Mode, cfg.Traces = c.mode, c.traces })
			if y.PushMetrics != nil {
				t.Error("metrics are pushed")
			}
			if (y.Tracer != nil) != c.want || y.IsOn() != c.want {
				t.Errorf("a tracer: %v, on: %t", y.Tracer, y.IsOn())
			}
			if y.Tracer != nil {
				y.Tracer.Shutdown(t.Context())
			}
			if text := log.String(); (text == "") != (c.log == "") || !strings.Contains(text, c.log) {
				t.Errorf("the log: %q, want %q", text, c.log)
			}
		})
	}
}

// Metrics have a sender of their own, also where no task is seen.
func TestPushedMetricsOfAConfiguration(t *testing.T) {
	for file, want := range map[string]bool{"": true, "/no/such/file": false} {
		y, log := open(func(cfg *config.Config) {
			cfg.Mode, cfg.PushMetrics = config.ModeSupervise, &config.Collector{Endpoint: "http://127.0.0.1:1/", CAFile: file}
		})
		if y.Tracer != nil || (y.PushMetrics != nil) != want || strings.Contains(log.String(), "pushing metrics is off") == want {
			t.Errorf("with %q: a tracer %v, a sender %t, the log %q", file, y.Tracer, y.PushMetrics != nil, log)
		}
	}
}
