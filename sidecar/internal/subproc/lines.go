package subproc

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"

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
	lines := bufio.NewReaderSize(r, maxWhole)
	for {
		raw, err := nextLine(lines)
		if len(raw) == 0 && err != nil {
			return
		}
		whole := strings.ToValidUTF8(string(raw), "\uFFFD")
		keep.Add(clip(whole))
		var about []any
		if attrs != nil {
			about = attrs()
		}
		level, line := workerlog.Attrs(whole, about)
		if len(line) >= 2 && line[0] == workerlog.Key && line[1] == whole {
			line[1] = clip(whole)
		}
		//nolint:sloglint // the callers' messages are constants
		log.Log(context.Background(), level, msg, line...)
		if err != nil {
			return
		}
	}
}

const (
	// maxWhole is how long a line may be to be read as JSON: beyond MaxLogLine its
	// members are cut one by one, so that it keeps its level.
	maxWhole = 64 << 10
	// keptTail is how much of the end of a longer line is kept: the cause of a
	// failure stands there.
	keptTail = 4 << 10
)

// nextLine reads a line without its end, and folds what a terminal would have
// written over itself (progress bars) to its last state. Of a line that is longer
// than maxWhole it gives the beginning and the end. An error comes with the last
// line, which may be empty.
func nextLine(r *bufio.Reader) ([]byte, error) {
	part, err := r.ReadSlice('\n')
	if !errors.Is(err, bufio.ErrBufferFull) {
		return fold(part), err
	}
	head := bytes.Clone(part[:MaxLogLine-keptTail])
	tail := bytes.Clone(part[len(part)-keptTail:])
	length := len(part)
	for errors.Is(err, bufio.ErrBufferFull) {
		part, err = r.ReadSlice('\n')
		length += len(part)
		tail = append(tail, part...)
		tail = append(tail[:0], tail[max(0, len(tail)-keptTail):]...)
	}
	tail = bytes.TrimRight(tail, "\r\n")
	if i := bytes.LastIndexByte(tail, '\r'); i >= 0 {
		return tail[i+1:], err // the last state of a progress bar
	}
	return fmt.Appendf(head, "… %d bytes left out …%s", length-len(head)-len(tail), tail), err
}

// fold takes the end off a line, and what was written over.
func fold(line []byte) []byte {
	line = bytes.TrimRight(line, "\r\n")
	return line[bytes.LastIndexByte(line, '\r')+1:]
}

// clip shortens a line that is longer than the log takes, and keeps its end.
func clip(text string) string {
	if len(text) <= MaxLogLine+64 { // nextLine has shortened it, or it fits
		return text
	}
	head, tail := text[:MaxLogLine-keptTail], text[len(text)-keptTail:]
	return strings.ToValidUTF8(fmt.Sprintf("%s… %d bytes left out …%s", head, len(text)-len(head)-len(tail), tail), "")
}
