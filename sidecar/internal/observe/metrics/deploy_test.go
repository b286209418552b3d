package metrics_test

import (
	"context"
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/metrics"
)

// everything is a sidecar of which every metric has a value.
type everything struct{}

func (everything) Self() fleet.Run {
	return fleet.Run{Slots: 1, Children: []fleet.Child{{PID: 1, State: fleet.Serving}}}
}
func (everything) Overview(context.Context) (fleet.Queue, error) { return fleet.Queue{}, nil }
func (everything) Draining() bool                                { return false }
func (everything) RedisLost() bool                               { return false }
func (everything) LogLinesDropped() int64                        { return 0 }
func (everything) UnreportedBytes() int64                        { return 0 }
func (everything) Resident(int) (int64, error)                   { return 1, nil }

// What the dashboard and the alerts ask for is there, with those labels, and the
// dashboard shows every metric.
func TestDeployAsksForWhatIsThere(t *testing.T) {
	m := metrics.New("1.2.3", "graflow", everything{})
	m.Ended(metrics.Success, "1", time.Unix(2, 0), time.Unix(3, 0))
	m.RedisError("timeout")
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	there := map[string]string{} // a name and what its series begin with
	for line := range strings.Lines(w.Body.String()) {
		if name, _, ok := strings.Cut(strings.NewReplacer("{", " ").Replace(line), " "); ok && name != "#" {
			there[name] += line
		}
	}
	asked := regexp.MustCompile(`\b(graflow_[a-z_]+)\b(?:\{([a-z_]+)(?:=~|!~|!=|=)"([^"]*)")?`)
	n := 0
	for _, path := range []string{"grafana/dashboard.json", "prometheus/alerts.yml"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "deploy", path))
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range asked.FindAllStringSubmatch(strings.ReplaceAll(string(text), `\"`, `"`), -1) {
			n++
			series, ok := there[match[1]]
			if !ok {
				t.Errorf("%s asks for %s, which no sidecar has", path, match[1])
				continue
			}
			label, value := match[2], match[3]
			if label == "" || strings.HasPrefix(value, "$") { // Prometheus' own, or the dashboard's
				continue
			}
			for v := range strings.SplitSeq(value, "|") {
				if !strings.Contains(series, label+`="`+v+`"`) {
					t.Errorf("%s asks for %s with %s=%q, which no sidecar has", path, match[1], label, v)
				}
			}
		}
	}
	dashboard, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "deploy", "grafana", "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	of := strings.NewReplacer("_bucket", "", "_sum", "", "_count", "")
	for name := range there {
		if name = of.Replace(name); strings.HasPrefix(name, "graflow_") && !strings.Contains(string(dashboard), name) {
			t.Errorf("deploy/grafana/dashboard.json does not show %s", name)
		}
	}
	if n < 40 {
		t.Errorf("%d questions found", n)
	}
}

func TestPanelsOfTheDashboardDoNotOverlap(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "deploy", "grafana", "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			GridPos struct{ X, Y, W, H int }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil || len(dashboard.Panels) == 0 {
		t.Fatalf("%d panels: %v", len(dashboard.Panels), err)
	}
	const width = 24 // Grafana's grid
	cells := map[[2]int]string{}
	for _, p := range dashboard.Panels {
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, taken := cells[at]; taken {
					t.Errorf("the panels %q and %q overlap", p.Title, other)
				}
				if at[0] >= width {
					t.Errorf("the panel %q is wider than the page", p.Title)
				}
				cells[at] = p.Title
			}
		}
	}
}
