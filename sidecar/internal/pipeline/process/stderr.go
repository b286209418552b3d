package process

import (
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/graflow/graflow-sidecar/protocol"
)

// maxLogLine bounds one line of a worker's stderr in the log.
const maxLogLine = 16 << 10

// tailLines is how many of the worker's last stderr lines are remembered for
// start failures and dead letters.
const tailLines = 20

// tail keeps the last lines. Safe for concurrent use.
type tail struct {
	mu    sync.Mutex
	lines []string
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == tailLines {
		copy(t.lines, t.lines[1:])
		t.lines = t.lines[:tailLines-1]
	}
	t.lines = append(t.lines, line)
}

// last is the last line that is not blank.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, line := range slices.Backward(t.lines) {
		if s := strings.TrimSpace(line); s != "" {
			return s
		}
	}
	return ""
}

func (t *tail) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

// logLines makes log lines of what the worker prints, until the stream ends.
// attrs gives the attributes of the moment (which task runs).
func logLines(r io.Reader, log *slog.Logger, keep *tail, attrs func() []any) {
	lines := protocol.NewLineReader(r, maxLogLine)
	for {
		line, err := lines.Next()
		var long *protocol.TooLongError
		var cut *protocol.UnterminatedError
		switch {
		case errors.As(err, &long):
			line = append(long.Prefix, "…"...)
		case errors.As(err, &cut):
			line = cut.Tail
		case err != nil:
			return
		}
		text := strings.ToValidUTF8(string(line), "\uFFFD")
		keep.add(text)
		log.Info("worker stderr", append([]any{"line", text}, attrs()...)...)
	}
}
