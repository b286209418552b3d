package logdocs

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// metrics are those that a sidecar has, histograms with what is asked of them.
var metrics = []string{
	"graflow_queue_depth", "graflow_sidecar_queue_oldest_task_age_seconds",
	"graflow_sidecar_tasks_total", "graflow_sidecar_tasks_in_flight", "graflow_sidecar_slots",
	"graflow_sidecar_task_duration_seconds_bucket", "graflow_sidecar_task_queue_wait_seconds_bucket",
	"graflow_sidecar_dead_letters", "graflow_sidecar_reports_pending",
	"graflow_sidecar_children", "graflow_sidecar_child_restarts_total", "graflow_sidecar_child_resident_memory_bytes",
	"graflow_sidecar_protocol_errors_total", "graflow_sidecar_redis_up", "graflow_sidecar_redis_errors_total",
	"graflow_sidecar_paused", "graflow_sidecar_draining", "graflow_sidecar_build_info",
	"graflow_sidecar_unreported_bytes", "graflow_sidecar_log_lines_dropped_total",
}

var metricName = regexp.MustCompile(`\bgraflow_[a-z_]+\b`)

// What is asked for is there, and what is there is asked for somewhere.
func TestTheDashboardAndTheAlertsAskForWhatIsThere(t *testing.T) {
	var dashboard struct {
		Panels []struct {
			Title   string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Expr string }
		}
	}
	text, err := os.ReadFile(filepath.Join(root, "deploy", "grafana", "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	cells := map[[2]int]string{}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			for _, name := range metricName.FindAllString(target.Expr, -1) {
				shown[name] = true
			}
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, taken := cells[at]; taken || at[0] >= 24 {
					t.Errorf("the panels %q and %q lie on each other, or beside the page", p.Title, other)
				}
				cells[at] = p.Title
			}
		}
	}
	rules, err := os.ReadFile(filepath.Join(root, "deploy", "prometheus", "alerts.yml"))
	if err != nil {
		t.Fatal(err)
	}
	asked := metricName.FindAllString(strings.ReplaceAll(string(rules), "graflow-sidecar", ""), -1)
	for name := range shown {
		asked = append(asked, name)
	}
	for _, name := range asked {
		if !slices.Contains(metrics, name) {
			t.Errorf("%s is asked for, and no sidecar has it", name)
		}
	}
	for _, name := range metrics {
		if !shown[name] {
			t.Errorf("the dashboard does not show %s", name)
		}
	}
}
