package rpc

import (
	"errors"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

const (
	// quietAfter is how long stdout has to pause until the text after its last line end
	// is judged, and how long a valid answer may take after output that looks like one.
	quietAfter = 500 * time.Millisecond
	// lastLook is how long stdoutPipe reads on after that: if this process was stopped,
	// the time has passed although the bytes are in the pipe.
	lastLook = 20 * time.Millisecond
)

// errQuiet is the error of a read that ended without input because something is to be
// judged.
var errQuiet = errors.New("nothing came")

// stdoutPipe reads a child's stdout. A read ends without input when the reader has
// something to judge: the beginning of a line that does not go on, or output that
// looked like an answer. For ordinary answers it only reads.
type stdoutPipe struct {
	pipe     local.ReadPipe
	deadline readDeadline
	lines    *protocol.LineReader
	due      func() time.Time // when a suspect is to be judged; zero if there is none
	stall    time.Duration    // after this pause within a message the message is a fault

	taken   int       // bytes of the unfinished line that were handled as a message
	judged  int       // length of the unfinished line when it was judged
	since   time.Time // when that was, or of the last input after it
	stalled bool      // the line was judged as a message that does not go on
}

// Read reads from the pipe until there is something to judge.
func (l *stdoutPipe) Read(b []byte) (int, error) {
	until := l.until()
	if until.IsZero() {
		return l.pipe.Read(b)
	}
	defer l.deadline.set(l.pipe, time.Time{})
	for last := false; ; last = true {
		l.deadline.set(l.pipe, until)
		n, err := l.pipe.Read(b)
		switch {
		case n > 0:
			l.since = time.Now()
			return n, err
		case err == nil || !isTimeout(err) || l.deadline.over():
			return n, err
		case last:
			return 0, errQuiet
		}
		until = time.Now().Add(lastLook)
	}
}

// until returns the deadline of the next read; zero if it has none.
func (l *stdoutPipe) until() time.Time {
	until := l.due()
	begun := len(l.lines.Partial())
	var at time.Time
	switch {
	case begun == 0:
		return until
	case begun > l.judged:
		at = time.Now().Add(quietAfter)
	case begun > l.taken && !l.stalled && l.stall > 0:
		at = l.since.Add(l.stall)
	default:
		return until
	}
	if until.IsZero() || at.Before(until) {
		return at
	}
	return until
}

// rest returns a line without the part that was handled before the line end arrived.
func (l *stdoutPipe) rest(line []byte) []byte {
	line = line[min(l.taken, len(line)):]
	l.taken, l.judged, l.stalled = 0, 0, false
	return line
}

// readDeadline is the read deadline of a pipe. The reader sets it repeatedly; end sets
// the last one.
type readDeadline struct {
	mu   sync.Mutex
	last time.Time // set by end; zero before
}

func (d *readDeadline) set(pipe local.ReadPipe, t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.last.IsZero() && (t.IsZero() || t.After(d.last)) {
		t = d.last
	}
	_ = pipe.SetReadDeadline(t)
}

// end sets the last deadline: later ones have no effect.
func (d *readDeadline) end(pipe local.ReadPipe, t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = t
	_ = pipe.SetReadDeadline(t)
}

// over reports whether the last deadline has passed.
func (d *readDeadline) over() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.last.IsZero() && !time.Now().Before(d.last)
}
