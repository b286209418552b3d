package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/protocol/conformance"
)

// A worker that dies at once fails one check, and the rest is not listed.
func TestWorkerTestOfNoWorker(t *testing.T) {
	var out strings.Builder
	err := testWorker(conformance.Worker{Command: []string{"false"}, StartTimeout: 10 * time.Second}, &out)
	if status := exitStatus(err); status != exitInternal || !strings.Contains(err.Error(), "1 of 1 checks failed") {
		t.Errorf("status %d, %v", status, err)
	}
	for _, want := range []string{
		"FAIL  P1 P15 P18",
		"the worker exited with status 1",
		"not checked: the worker does not start",
		"0 passed, 1 failed, ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, out.String())
		}
	}
	if n := strings.Count(out.String(), "\n--"); n != 0 {
		t.Errorf("%d checks are listed that cannot be made", n)
	}
}

func TestWorkerTestUsage(t *testing.T) {
	for _, args := range [][]string{
		{"worker"},
		{"worker", "test"},
		{"worker", "test", "false"},
		{"worker", "test", "x", "--", "false"},
		{"worker", "test", "--no-such-flag", "--", "false"},
		{"worker", "test", "--record", "[]", "--", "false"},
		{"worker", "test", "--slow-record", filepath.Join(t.TempDir(), "no-such-file"), "--", "false"},
		{"worker", "test", "--patience", "0s", "--", "false"},
	} {
		if status := Execute(args); status != exitUsage {
			t.Errorf("%q: status %d", args, status)
		}
	}
}

func TestRecordText(t *testing.T) {
	file := filepath.Join(t.TempDir(), "record.json")
	if err := os.WriteFile(file, []byte("\n{\"a\": 1}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for given, want := range map[string]string{
		"":           "",
		` {"b":2} `:  `{"b":2}`,
		file:         `{"a": 1}`,
		`{"c":[{}]}`: `{"c":[{}]}`,
	} {
		if got, err := recordText(given); err != nil || string(got) != want {
			t.Errorf("%q: %q %v", given, got, err)
		}
	}
}
