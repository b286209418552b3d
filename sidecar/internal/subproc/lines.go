package subproc

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/workerlog"
)

// MaxLogLine bounds one line of a worker's stderr in the log.
const MaxLogLine = 16 << 10

// tailLines is how many of the worker's last stderr lines are remembered for
// start failures and dead letters.
const tailLines = 20

// Tail keeps the last lines of a stream. The zero value is empty. Safe for
// concurrent use.
type Tail struct {
	mu    sync.Mutex
	lines []string
}

// Add appends a line; the oldest goes when there are too many.
func (t *Tail) Add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) == tailLines {
		copy(t.lines, t.lines[1:])
		t.lines = t.lines[:tailLines-1]
	}
	t.lines = append(t.lines, line)
}

// Last is the last line that is not blank.
func (t *Tail) Last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, line := range slices.Backward(t.lines) {
		if s := strings.TrimSpace(line); s != "" {
			return s
		}
	}
	return ""
}

// Text is all that is kept, a line each.
func (t *Tail) Text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(t.lines, "\n")
}

// LogLines makes log lines of what a worker writes to r, with the message msg,
// until the stream ends, and keeps the last ones. A line that is a JSON object is
// merged, with its level, see [workerlog.Attrs]. attrs gives the attributes of
// the moment (which task runs); nil means none.
func LogLines(r io.Reader, log *slog.Logger, msg string, keep *Tail, attrs func() []any) {
	lines := protocol.NewLineReader(r, MaxLogLine)
	for {
		raw, err := lines.Next()
		var long *protocol.TooLongError
		var cut *protocol.UnterminatedError
		switch {
		case errors.As(err, &long):
			raw = append(long.Prefix, "…"...)
		case errors.As(err, &cut):
			raw = cut.Tail
		case err != nil:
			return
		}
		text := strings.ToValidUTF8(string(raw), "\uFFFD")
		keep.Add(text)
		var about []any
		if attrs != nil {
			about = attrs()
		}
		level, line := workerlog.Attrs(text, about)
		//nolint:sloglint // the callers' messages are constants
		log.Log(context.Background(), level, msg, line...)
	}
}
