package metrics_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/metrics"
)

var (
	documented = regexp.MustCompile("(?m)^\\| `(graflow_[a-z_]+)(?:\\{[a-z_,]+\\})?` \\|")
	typed      = regexp.MustCompile(`(?m)^# TYPE (graflow_[a-z_]+) `)
)

// TestTheMetricsAreDocumented checks that docs/monitoring.md has every metric and no
// other, each once.
func TestTheMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "docs", "monitoring.md"))
	if err != nil {
		t.Fatal(err)
	}
	m := metrics.New("1", "p", &source{})
	m.RedisError("timeout")
	m.Ended(metrics.Success, "1", time.Unix(1, 0), time.Unix(2, 0))
	names := func(r *regexp.Regexp, text string) (list []string) {
		for _, match := range r.FindAllStringSubmatch(text, -1) {
			list = append(list, match[1])
		}
		return list
	}
	there, said := names(typed, scrape(t, m)), names(documented, string(text))
	if len(said) != len(there) {
		t.Errorf("there are %d metrics, and docs/monitoring.md has %d rows", len(there), len(said))
	}
	if len(there) < 15 {
		t.Errorf("there are only %v", there)
	}
	for _, name := range there {
		if !slices.Contains(said, name) {
			t.Errorf("docs/monitoring.md has no row for %s: add it to the table under Metrics", name)
		}
	}
	for _, name := range said {
		if !slices.Contains(there, name) {
			t.Errorf("docs/monitoring.md has a row for %s, which does not exist", name)
		}
	}
}
