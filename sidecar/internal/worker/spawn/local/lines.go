package local

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/workerlog"
)

// LogLines logs the lines that a worker writes to r, with the message msg, until the
// stream ends, and adds them to the tail. A line that is a JSON object is merged, with
// its level, see [workerlog.Attrs]. A line longer than the log allows keeps its head
// and its tail, see [workerlog.Text]. Text that a terminal would have overwritten, such
// as a progress bar whose states are separated by \r, is reduced to its last state,
// which is logged once a second at most.
//
// attrs returns the current attributes (the running task); nil means none. One
// goroutine at a time calls it, which is not always the caller's.
func LogLines(r io.Reader, log *slog.Logger, msg string, keep *Tail, attrs func() []any) {
	l := &lineLog{log: log, msg: msg, keep: keep, attrs: attrs}
	defer l.stop()
	buf := make([]byte, readSize)
	for {
		n, err := r.Read(buf)
		l.write(buf[:n])
		if err != nil {
			l.flush()
			return
		}
	}
}

const (
	// readSize is the maximum size of one read of a worker's output.
	readSize = 8 << 10
	// maxWhole is the maximum length of a line that is parsed as JSON: beyond
	// [workerlog.MaxText] its members are cut one by one. Of a longer line only the
	// level is used, if it is in the first maxWhole bytes.
	maxWhole = 64 << 10
	// progressPeriod is how often a line that is overwritten repeatedly is logged
	// before it ends.
	progressPeriod = time.Second
)

// lineLog assembles lines from the pieces of a stream, and logs them.
type lineLog struct {
	log   *slog.Logger
	msg   string
	keep  *Tail
	attrs func() []any

	mu       sync.Mutex
	state    lineState   // the text since the last \r or line end
	earlier  lineState   // the last state before it that is not blank
	written  bool        // the line has a \r: its states are progress
	progress *time.Timer // logs the state of the line; nil if none is due
	shown    string      // the state of this line that has been logged
	stopped  bool
}

// write adds a piece of the stream.
func (l *lineLog) write(p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(p) > 0 {
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			l.state.append(p)
			break
		}
		l.state.append(p[:i])
		if p[i] == '\n' {
			l.endLine()
		} else {
			l.endState()
		}
		p = p[i+1:]
	}
	if l.written && l.progress == nil {
		l.progress = time.AfterFunc(progressPeriod, l.showProgress)
	}
}

// endState handles a \r: the following text overwrites the line. A \r of a line end
// \r\n changes nothing, since no text follows it.
func (l *lineLog) endState() {
	l.written = true
	if l.state.isText {
		l.state, l.earlier = l.earlier, l.state
	}
	l.state.reset()
}

// current returns the state of the line that a terminal would show. An empty state
// after another one is a cursor that went back, or a bar that was cleared at its end.
func (l *lineLog) current() *lineState {
	if !l.state.isText && l.earlier.isText {
		return &l.earlier
	}
	return &l.state
}

// endLine logs a line, unless its state has been logged.
func (l *lineLog) endLine() {
	s := l.current()
	text := s.text()
	l.keep.Add(text)
	if l.shown == "" || l.shown != text {
		l.emit(s, text)
	}
	l.state.reset()
	l.earlier.reset()
	l.written, l.shown = false, ""
	if l.progress != nil {
		l.progress.Stop()
		l.progress = nil
	}
}

// showProgress logs the state of a line that has not ended.
func (l *lineLog) showProgress() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stopped || !l.written {
		return // the line ended while showProgress waited
	}
	l.progress = nil
	if s := l.current(); s.isText {
		if text := s.text(); text != l.shown {
			l.shown = text
			l.emit(s, text)
		}
	}
}

// flush logs the text after the last line end.
func (l *lineLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current().size > 0 {
		l.endLine()
	}
}

// stop prevents any later log line.
func (l *lineLog) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	if l.progress != nil {
		l.progress.Stop()
	}
}

// emit logs a state; text is its text within the limits of the log.
func (l *lineLog) emit(s *lineState, text string) {
	var about []any
	if l.attrs != nil {
		about = l.attrs()
	}
	level, line := s.attrs(text, about)
	//nolint:sloglint // the callers' messages are constants
	l.log.Log(context.Background(), level, l.msg, line...)
}

// LastState returns what a terminal would show of a line whose states are separated by
// \r: the last state that is not blank.
func LastState(line []byte) []byte {
	line = bytes.TrimRight(line, "\r\n\t ")
	return line[bytes.LastIndexByte(line, '\r')+1:]
}

// lineState is one state of a line: complete up to maxWhole bytes, beyond that its head
// and its tail.
type lineState struct {
	head   []byte // at most maxWhole
	rest   []byte // the end of the text after head, at least the last workerlog.KeptTail bytes
	size   int    // the total length
	isText bool   // the text is not blank
}

func (s *lineState) append(p []byte) {
	s.size += len(p)
	s.isText = s.isText || len(bytes.TrimSpace(p)) > 0
	n := min(len(p), maxWhole-len(s.head))
	s.head = append(s.head, p[:n]...)
	s.rest = append(s.rest, p[n:]...)
	if len(s.rest) > 4*workerlog.KeptTail {
		s.rest = append(s.rest[:0], s.rest[len(s.rest)-workerlog.KeptTail:]...)
	}
}

// reset clears the state. It keeps the memory of a usual line and frees that of a long
// one.
func (s *lineState) reset() {
	if cap(s.head) > readSize {
		s.head = nil
	}
	*s = lineState{head: s.head[:0]}
}

func (s *lineState) isWhole() bool { return s.size == len(s.head) }

// text returns the text within the limits of the log.
func (s *lineState) text() string {
	if s.isWhole() {
		return workerlog.Text(strings.ToValidUTF8(string(s.head), "\uFFFD"))
	}
	tail := append(bytes.Clone(s.head[maxWhole-workerlog.KeptTail:]), s.rest...)
	return workerlog.Ends(s.head[:workerlog.MaxText], tail[len(tail)-workerlog.KeptTail:], s.size)
}

// attrs returns the level and the attributes of the line, see [workerlog.Attrs].
func (s *lineState) attrs(text string, about []any) (slog.Level, []any) {
	if !s.isWhole() {
		return workerlog.HeadLevel(s.head), append([]any{workerlog.Key, text}, about...)
	}
	whole := strings.ToValidUTF8(string(s.head), "\uFFFD")
	level, line := workerlog.Attrs(whole, about)
	if len(line) >= 2 && line[0] == workerlog.Key && line[1] == whole {
		line[1] = text // not JSON: Attrs has the line unchanged
	}
	return level, line
}
