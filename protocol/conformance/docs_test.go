package conformance

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The worker in docs/protocol.md is a worker, lacks what the text says that it
// lacks, and has the 30 lines that are promised.
func TestWorkerInTheDocument(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("python3"); err != nil && os.Getenv(needsVariable) != "1" {
		t.Skip("left out; to have it tested: apt-get install python3")
	}
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "```python\n")
	code, _, found := strings.Cut(rest, "```\n")
	if !found {
		t.Fatal("no Python in docs/protocol.md")
	}
	written := 0
	for line := range strings.Lines(code) {
		if strings.TrimSpace(line) != "" {
			written++
		}
	}
	if written > 30 {
		t.Errorf("%d lines", written)
	}
	file := filepath.Join(t.TempDir(), "worker.py")
	if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	lacks := []string{"limits/too-long", "interrupt/says-so"}
	reports := checkAll(t, 1, 1, func(_, scale int) Worker {
		return Worker{
			Command: []string{"python3", "-B", file},
			Records: Records{
				Quick:   []byte(`{"task_id":"length_1","text":"abc"}`),
				Failing: []byte(`{"task_id":"length_2"}`),
			},
			Patience: time.Duration(10*scale) * time.Second,
		}
	}, func(_ int, r *Report) bool { return slices.Equal(r.names(Failed), lacks) })
	if failed := reports[0].names(Failed); !slices.Equal(failed, lacks) {
		t.Errorf("failed: %q", failed)
	}
}
