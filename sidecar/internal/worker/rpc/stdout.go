package rpc

import (
	"errors"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

const (
	// quietAfter is how long stdout has to pause until what stands behind its last
	// line end is looked at, and how long a valid answer may take after what only
	// looks like one.
	quietAfter = 500 * time.Millisecond
	// lastLook is how long is read on after that: where this process was stopped,
	// the time has passed and the bytes are there.
	lastLook = 20 * time.Millisecond
)

// errQuiet is the error of a read that had to be given up for now.
var errQuiet = errors.New("nothing came")

// listener reads a child's stdout, and returns from a read without anything where
// the reader has something to judge: the beginning of a line to which nothing was
// added, or what looked like an answer. For ordinary answers it only reads.
type listener struct {
	pipe     local.ReadPipe
	deadline readDeadline
	lines    *protocol.LineReader
	due      func() time.Time // when something is to be judged; zero for never
	stall    time.Duration    // after which a message that has begun is a fault

	taken   int       // bytes of the line that has begun which were taken as a message
	judged  int       // bytes of it when it was judged
	since   time.Time // of that
	stalled bool      // it was judged as a message that does not go on
}

// Read reads from the pipe until there is something to judge.
func (l *listener) Read(b []byte) (int, error) {
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

// until is how long the next read may take; zero where it may take any time.
func (l *listener) until() time.Time {
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

// rest takes off a line what was taken of it before it had its end.
func (l *listener) rest(line []byte) []byte {
	line = line[min(l.taken, len(line)):]
	l.taken, l.judged, l.stalled = 0, 0, false
	return line
}

// readDeadline is set by the reader again and again, and for good by the one that
// ends it.
type readDeadline struct {
	mu   sync.Mutex
	last time.Time // zero until it is set for good
}

func (d *readDeadline) set(pipe local.ReadPipe, t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.last.IsZero() && (t.IsZero() || t.After(d.last)) {
		t = d.last
	}
	_ = pipe.SetReadDeadline(t)
}

// end sets it for good.
func (d *readDeadline) end(pipe local.ReadPipe, t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last = t
	_ = pipe.SetReadDeadline(t)
}

// over reports that no read is to be tried any more.
func (d *readDeadline) over() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.last.IsZero() && !time.Now().Before(d.last)
}
