package subproc_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/internal/subproc"
)

// A line is logged whole up to 16 KiB; of a longer one the head, the tail and the
// number of bytes between them are kept. JSON keeps its level.
func TestLongLinesKeepTheirEnd(t *testing.T) {
	y := func(n int) string { return strings.Repeat("y", n) }
	for _, tt := range []struct{ name, in, level, begin, end string }{
		{"whole", y(16384) + "\n", "INFO", y(16384), ""},
		{"17 KB", "head" + y(17000) + "cause\n", "INFO", "head" + y(12000), "cause"},
		{"200 KB", "head" + y(200_000) + "cause\n", "INFO", "head" + y(12000), "cause"},
		{"200 KB of not UTF-8", strings.Repeat("\xff", 200_000) + "cause\n", "INFO", "\uFFFD", "cause"},
		{"no end", "head" + y(100) + "cause", "INFO", "head", "cause"},
		{"JSON", `{"level":"error","msg":"boom","stack":"` + y(17000) + `"}` + "\n", "ERROR", "boom", ""},
		{"progress", "10 %\r20 %\r30 %\r\n", "INFO", "30 %", "30 %"},
		{"much progress", strings.Repeat("10 %\r", 100_000) + "done\n", "INFO", "done", "done"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			var tail subproc.Tail
			subproc.LogLines(strings.NewReader(tt.in), slog.New(slog.NewJSONHandler(&b, nil)), "worker stderr", &tail, nil)
			var got struct{ Level, Line string }
			if err := json.Unmarshal(b.Bytes(), &got); err != nil {
				t.Fatalf("%v: %d bytes", err, b.Len())
			}
			if got.Level != tt.level || !strings.HasPrefix(got.Line, tt.begin) || !strings.HasSuffix(got.Line, tt.end) {
				t.Errorf("level %s, %d bytes: %.40q … %q", got.Level, len(got.Line), got.Line, got.Line[max(0, len(got.Line)-60):])
			}
			if long := len(tt.in) > 16500 && tt.level == "INFO" && tt.name != "much progress"; strings.Contains(got.Line, "bytes left out") != long || len(got.Line) > 3*17000 {
				t.Errorf("%d bytes, left out: %v", len(got.Line), !long)
			}
			if !strings.HasSuffix(tail.Last(), tt.end) {
				t.Errorf("the tail has %d bytes", len(tail.Last()))
			}
		})
	}
}
