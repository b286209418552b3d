package logging

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// With LOG_LEVEL=CRITICAL what a worker calls critical is left, under a name that
// searches and alerts know.
func TestCritical(t *testing.T) {
	for format, want := range map[Format]string{JSON: `"level":"ERROR","msg":"critical","slot":1`, Text: "ERR critical slot=1"} {
		var b bytes.Buffer
		log := New(&b, format, LevelCritical, false).With("slot", 1)
		log.Error("error")
		log.Log(context.Background(), LevelCritical, "critical")
		if got := b.String(); !strings.Contains(got, want) || strings.Count(got, "\n") != 1 {
			t.Errorf("%s: got %s, want one line with %s", format, got, want)
		}
	}
}
