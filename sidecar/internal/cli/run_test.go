package cli

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

func TestARunningSidecarForgetsTheOtherCommands(t *testing.T) {
	root := &cobra.Command{Use: "sidecar"}
	run := runCommand()
	root.AddCommand(manifestCommand(), run, versionCommand())
	forgetOthers(run)
	if left := root.Commands(); len(left) != 1 || left[0] != run {
		t.Errorf("%d commands are left", len(left))
	}
}

// A variable of OpenTelemetry that cannot be used costs a line.
func TestProblemsOfTelemetryVariablesAreReported(t *testing.T) {
	var log testlog.Buffer
	reportProblems([]config.TelemetryProblem{{Variable: "OTEL_X", Reason: "odd"}}, slog.New(slog.NewTextHandler(&log, nil)))
	if !strings.Contains(log.String(), "variable=OTEL_X reason=odd") {
		t.Errorf("the log: %q", &log)
	}
}

func TestTheStatusLine(t *testing.T) {
	for _, c := range []struct {
		status app.Status
		want   string
	}{
		{app.Status{State: app.Starting, Capacity: 2}, "starting: 0 of 2 tasks in flight, 0 workers"},
		{app.Status{State: app.Running, Capacity: 2, Workers: 2}, "running: 0 of 2 tasks in flight, 2 workers"},
		{app.Status{State: app.Running, Workers: 1, Waiting: 3, Unreported: 4}, "running: 0 of 0 tasks in flight, 1 workers, 3 claimed ahead, 4 results not reported yet"},
		{app.Status{State: app.Stopping, RedisLost: true, CrashLoop: true}, "stopping: 0 of 0 tasks in flight, 0 workers; Redis is away; the workers keep dying"},
	} {
		if got := statusLine(c.status); got != c.want {
			t.Errorf("%+v: %q", c.status, got)
		}
	}
}
