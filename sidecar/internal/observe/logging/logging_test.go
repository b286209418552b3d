package logging

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/config"
)

// A task id or the text of a failure may have megabytes. A line longer than the queue
// was dropped, and its failure was in no log.
func TestLongValuesAreShortened(t *testing.T) {
	long := strings.Repeat("x", 8<<20)
	for _, format := range []config.LogFormat{config.LogJSON, config.LogText} {
		var b bytes.Buffer
		log := New(&b, format, slog.LevelInfo, false)
		log.Error("failed", "task_id", long+"id", "error", errors.New("begin"+long), "slot", 1)
		got := b.String()
		if len(got) > 64<<10 || strings.Count(got, "bytes left out") != 2 {
			t.Errorf("%s: a line of %d bytes: %.100s", format, len(got), got)
		}
		for _, want := range []string{"xxid", "beginxx", "slot"} {
			if !strings.Contains(got, want) {
				t.Errorf("%s: the line lacks %s", format, want)
			}
		}
	}
}

// With LOG_LEVEL=CRITICAL what a worker calls critical is left, under a name that
// searches and alerts know.
func TestCritical(t *testing.T) {
	for format, want := range map[config.LogFormat]string{config.LogJSON: `"level":"ERROR","msg":"critical","slot":1`, config.LogText: "ERR critical slot=1"} {
		var b bytes.Buffer
		log := New(&b, format, config.LevelCritical, false).With("slot", 1)
		log.Error("error")
		log.Log(context.Background(), config.LevelCritical, "critical")
		if got := b.String(); !strings.Contains(got, want) || strings.Count(got, "\n") != 1 {
			t.Errorf("%s: got %s, want one line with %s", format, got, want)
		}
	}
}
