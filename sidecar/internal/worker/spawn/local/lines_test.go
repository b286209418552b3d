package local_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// TestLongLinesKeepTheirEnd: a line is logged completely up to 16 KiB. Of a longer one
// the head, the tail and the number of bytes between them are kept. JSON keeps its
// level.
func TestLongLinesKeepTheirEnd(t *testing.T) {
	y := func(n int) string { return strings.Repeat("y", n) }
	for _, tt := range []struct{ name, in, level, begin, end string }{
		{"whole", y(16384) + "\n", "INFO", y(16384), ""},
		{"hardly longer", "head" + y(17000) + "cause\n", "INFO", "head" + y(17000) + "cause", "cause"},
		{"30 KB", "head" + y(30000) + "cause\n", "INFO", "head" + y(16380) + "… 9529 bytes left out …", "yyyycause"},
		{"200 KB", "head" + y(200_000) + "cause\n", "INFO", "head" + y(16380) + "… 179529 bytes left out …", y(4091) + "cause"},
		{"just longer than what is read as JSON", "head" + y(64<<10) + "cause\n", "INFO", "head" + y(16380) + "… 45065 bytes left out …", y(4091) + "cause"},
		{"30 KB of 3-byte characters", strings.Repeat("€", 10_000) + "cause\n", "INFO", strings.Repeat("€", 5461) + "… 9528 bytes left out …€", "€cause"},
		{"200 KB of not UTF-8", strings.Repeat("\xff", 200_000) + "cause\n", "INFO", "\uFFFD", "cause"},
		{"no end", "head" + y(100) + "cause", "INFO", "head", "cause"},
		{"JSON", `{"level":"error","msg":"boom","stack":"` + y(17000) + `"}` + "\n", "ERROR", "boom", ""},
		{"JSON of 200 KB", `{"t":{"level":"debug"},"n":1,"levelname":"warn","msg":"boom","stack":"` + y(200_000) + `","level":"info"}` + "\n", "WARN", `{"t":`, `"info"}`},
		{"JSON of 200 KB with a late level", `{"stack":"` + y(200_000) + `","level":"error"}` + "\n", "INFO", `{"stack":"yyyy`, `"error"}`},
		{"nearly JSON of 200 KB", `{level: error ` + y(200_000) + "\n", "INFO", `{level: `, "yyyy"},
		{"a bar that was wiped", "10 %\r99 %\r    \r\n", "INFO", "99 %", "99 %"},
		{"lines of another system", "one line\r\n", "INFO", "one line", "one line"},
		{"a carriage return in front", "\r10 %\r20 %", "INFO", "20 %", "20 %"},
		{"progress", "10 %\r20 %\r30 %\r\n", "INFO", "30 %", "30 %"},
		{"much progress", strings.Repeat("10 %\r", 100_000) + "done\n", "INFO", "done", "done"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			var tail local.Tail
			local.LogLines(strings.NewReader(tt.in), slog.New(slog.NewJSONHandler(&b, nil)), "worker stderr", &tail, nil)
			var got struct{ Level, Line string }
			if err := json.Unmarshal(b.Bytes(), &got); err != nil {
				t.Fatalf("%v: %d bytes", err, b.Len())
			}
			if got.Level != tt.level || !strings.HasPrefix(got.Line, tt.begin) || !strings.HasSuffix(got.Line, tt.end) {
				t.Errorf("level %s, %d bytes: %.40q … %q", got.Level, len(got.Line), got.Line, got.Line[max(0, len(got.Line)-60):])
			}
			if long := len(tt.in) > 20_600 && tt.name != "much progress"; strings.Contains(got.Line, "bytes left out") != long || len(got.Line) > 3*17000 {
				t.Errorf("%d bytes, left out: %v", len(got.Line), !long)
			}
			if !strings.HasSuffix(tail.Last(), tt.end) {
				t.Errorf("the tail has %d bytes", len(tail.Last()))
			}
		})
	}
}

// TestProgressIsShownOnceASecond: a progress bar is logged with its last state once a
// second, and with its end once.
func TestProgressIsShownOnceASecond(t *testing.T) {
	for _, tt := range []struct {
		name  string
		write func(w io.Writer)
		want  []string // with the time of the log line
	}{
		{"states with \\r behind", func(w io.Writer) {
			for i := range 35 {
				fmt.Fprintf(w, "%d %%\r", i)
				time.Sleep(70 * time.Millisecond)
			}
			_, _ = io.WriteString(w, "done\n")
		}, []string{"1s 14 %", "2.05s 29 %", "2.45s done"}},
		{"states with \\r in front", func(w io.Writer) {
			for i := range 21 {
				fmt.Fprintf(w, "\r%d %%", i)
				time.Sleep(70 * time.Millisecond)
			}
			_, _ = io.WriteString(w, "\n")
		}, []string{"1s 14 %", "1.47s 20 %"}},
		{"a state that stays", func(w io.Writer) {
			_, _ = io.WriteString(w, "waiting\r")
			time.Sleep(time.Minute)
			_, _ = io.WriteString(w, "waiting\r")
			time.Sleep(time.Minute)
			_, _ = io.WriteString(w, "waiting\nwaiting\n")
		}, []string{"1s waiting", "2m0s waiting"}},
		{"a bar that is wiped", func(w io.Writer) {
			_, _ = io.WriteString(w, "50 %\r")
			time.Sleep(1500 * time.Millisecond)
			_, _ = io.WriteString(w, "     \r\nnext\n")
		}, []string{"1s 50 %", "1.5s next"}},
		{"a line end in two pieces", func(w io.Writer) {
			_, _ = io.WriteString(w, "line\r")
			time.Sleep(100 * time.Millisecond)
			_, _ = io.WriteString(w, "\nnext")
		}, []string{"100ms line", "100ms next"}},
		{"no progress", func(w io.Writer) {
			_, _ = io.WriteString(w, "a question? ")
			time.Sleep(5 * time.Second)
			_, _ = io.WriteString(w, "yes\n")
		}, []string{"5s a question? yes"}},
		{"a stream that ends", func(w io.Writer) {
			_, _ = io.WriteString(w, "50 %\r51 %")
		}, []string{"0s 51 %"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, w := io.Pipe()
				began := time.Now()
				go func() {
					tt.write(w)
					w.Close()
				}()
				var mu sync.Mutex
				var got []string
				log := slog.New(lineHandler(func(line string) {
					mu.Lock()
					defer mu.Unlock()
					got = append(got, time.Since(began).String()+" "+line)
				}))
				var tail local.Tail
				local.LogLines(r, log, "worker stderr", &tail, nil)
				time.Sleep(time.Minute) // nothing is logged after LogLines has returned
				if !slices.Equal(got, tt.want) {
					t.Errorf("the log has %q, want %q", got, tt.want)
				}
				if last := tt.want[len(tt.want)-1]; !strings.HasSuffix(last, " "+tail.Last()) {
					t.Errorf("the tail ends with %q, the log with %q", tail.Last(), last)
				}
			})
		})
	}
}

// lineHandler is called with the attribute "line" of each log line.
type lineHandler func(line string)

func (h lineHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h lineHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h lineHandler) WithGroup(string) slog.Handler            { return h }
func (h lineHandler) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "line" {
			h(a.Value.String())
		}
		return true
	})
	return nil
}

func TestLastState(t *testing.T) {
	for line, want := range map[string]string{
		"a line\r\n": "a line", "10 %\r20 %\r\r": "20 %", "10 %\r    ": "10 %", "\r10 %": "10 %", "\r \r": "", "": "",
	} {
		if got := local.LastState([]byte(line)); string(got) != want {
			t.Errorf("%q is %q, want %q", line, got, want)
		}
	}
}
