package conformance

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
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
	w := Worker{Command: []string{"python3", "-B", file}}
	w.Records.Quick = []byte(`{"task_id":"length_1","text":"abc"}`)
	w.Records.Failing = []byte(`{"task_id":"length_2"}`)
	report, err := w.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if failed := report.names(Failed); !slices.Equal(failed, []string{"limits/too-long", "interrupt/says-so"}) {
		t.Errorf("failed: %q", failed)
	}
}
