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

// LogLines makes log lines of what a worker writes to r, with the message msg,
// until the stream ends, and keeps the last ones. A line that is a JSON object is
// merged, with its level, see [workerlog.Attrs]. A longer line than the log takes
// keeps its head and its tail, see [workerlog.Text]. What a terminal would have
// written over itself (a progress bar, whose states are divided by \r) is folded to
// its last state, which is logged once a second at most.
//
// attrs gives the attributes of the moment (which task runs); nil means none. It is
// called by one goroutine at a time, which is not always the caller's.
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
	// readSize is what one read takes of a worker's output.
	readSize = 8 << 10
	// maxWhole is how long a line may be to be read as JSON: beyond
	// [workerlog.MaxText] its members are cut one by one. Of a longer one the level
	// stays, where its first maxWhole bytes tell it.
	maxWhole = 64 << 10
	// progressPeriod is how often a line that is written over again and again shows
	// its state before it ends.
	progressPeriod = time.Second
)

// lineLog makes lines of the pieces that a stream is read in, and logs them.
type lineLog struct {
	log   *slog.Logger
	msg   string
	keep  *Tail
	attrs func() []any

	mu       sync.Mutex
	state    lineState   // what was written since the last \r or line end
	earlier  lineState   // the last state before it that is not blank
	written  bool        // the line has a \r: earlier states, or this one, are progress
	progress *time.Timer // shows the state of the line; nil while none is due
	shown    string      // the state of this line that the log has already
	stopped  bool
}

// write takes the next piece of the stream.
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

// endState is a \r: what comes next is written over what is there. The one of a
// line end of \r\n changes nothing, since nothing follows it.
func (l *lineLog) endState() {
	l.written = true
	if l.state.isText {
		l.state, l.earlier = l.earlier, l.state
	}
	l.state.reset()
}

// current is the state of the line that a terminal would show. An empty one after
// another is a cursor that went back, or a bar that was wiped at its end.
func (l *lineLog) current() *lineState {
	if !l.state.isText && l.earlier.isText {
		return &l.earlier
	}
	return &l.state
}

// endLine logs a line, unless the log has this state of it.
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
		return // the line ended while this waited
	}
	l.progress = nil
	if s := l.current(); s.isText {
		if text := s.text(); text != l.shown {
			l.shown = text
			l.emit(s, text)
		}
	}
}

// flush logs what stands behind the last line end.
func (l *lineLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.current().size > 0 {
		l.endLine()
	}
}

// stop has nothing logged any more once it returns.
func (l *lineLog) stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	if l.progress != nil {
		l.progress.Stop()
	}
}

// emit logs a state; text is what the log may hold of it.
func (l *lineLog) emit(s *lineState, text string) {
	var about []any
	if l.attrs != nil {
		about = l.attrs()
	}
	level, line := s.attrs(text, about)
	//nolint:sloglint // the callers' messages are constants
	l.log.Log(context.Background(), level, l.msg, line...)
}

// LastState is what a terminal would show of a line whose states are divided by \r:
// the last one that is more than white space.
func LastState(line []byte) []byte {
	line = bytes.TrimRight(line, "\r\n\t ")
	return line[bytes.LastIndexByte(line, '\r')+1:]
}

// lineState is a line, or one of the states that it was written over with: whole up
// to maxWhole, and beyond that its head and its tail.
type lineState struct {
	head   []byte // at most maxWhole
	rest   []byte // the end of what came after it, at least the last workerlog.KeptTail
	size   int    // of all
	isText bool   // it is more than white space
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

// reset keeps the memory of a usual line, and gives back that of a long one.
func (s *lineState) reset() {
	if cap(s.head) > readSize {
		s.head = nil
	}
	*s = lineState{head: s.head[:0]}
}

func (s *lineState) isWhole() bool { return s.size == len(s.head) }

// text is what the log may hold of it.
func (s *lineState) text() string {
	if s.isWhole() {
		return workerlog.Text(strings.ToValidUTF8(string(s.head), "\uFFFD"))
	}
	tail := append(bytes.Clone(s.head[maxWhole-workerlog.KeptTail:]), s.rest...)
	return workerlog.Ends(s.head[:workerlog.MaxText], tail[len(tail)-workerlog.KeptTail:], s.size)
}

// attrs are its level and its attributes, see [workerlog.Attrs].
func (s *lineState) attrs(text string, about []any) (slog.Level, []any) {
	if !s.isWhole() {
		return workerlog.HeadLevel(s.head), append([]any{workerlog.Key, text}, about...)
	}
	whole := strings.ToValidUTF8(string(s.head), "\uFFFD")
	level, line := workerlog.Attrs(whole, about)
	if len(line) >= 2 && line[0] == workerlog.Key && line[1] == whole {
		line[1] = text // no JSON: Attrs has it as it is
	}
	return level, line
}
