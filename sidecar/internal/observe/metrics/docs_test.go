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

// TestTheMetricsAreDocumented: each that there is, and no other.
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
		slices.Sort(list)
		return list
	}
	there, said := names(typed, scrape(t, m)), names(documented, string(text))
	if len(there) < 15 || !slices.Equal(there, said) {
		t.Errorf("there are %v\ndocs/monitoring.md has %v", there, said)
	}
}
