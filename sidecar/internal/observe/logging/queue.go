package logging

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// queueBytes and queueLines bound what waits for the reader of the log.
	queueBytes = 4 << 20
	queueLines = 32 << 10
	// chunkBytes is what one write passes on at most, unless a line is longer: a
	// write of up to PIPE_BUF (4 KiB) to a pipe that others write to as well is
	// never mixed with theirs.
	chunkBytes = 4 << 10
	// spareBytes is how large a buffer is kept while nothing waits.
	spareBytes = 64 << 10
	// retryAfter is the longest pause before a write is repeated on a descriptor that
	// does not block.
	retryAfter = 20 * time.Millisecond
)

// Queue is an [io.Writer] for lines of a log whose reader may stall: a log driver
// that blocks, a terminal after Ctrl-S, a pager. Write never waits. What does not
// fit into the queue is dropped and counted, and so is what cannot be written (a
// full disk, a reader that is gone). Its methods may be called concurrently.
type Queue struct {
	out     io.Writer
	bytes   int
	lines   int
	drained func(lines int64)

	mu      sync.Mutex
	buf     []byte // accepted, and not yet taken by run
	waits   int    // lines that are not written yet
	writing int    // bytes that run has taken and not written yet
	closed  bool

	wake    chan struct{} // one token: there is something to write
	closing chan struct{} // closed by Close
	abandon chan struct{} // closed when Close gives up
	done    chan struct{} // closed when run has ended
	once    sync.Once
	dropped atomic.Int64

	// What follows is run's own.
	told   int64 // how many of the dropped lines drained has been told of
	failed bool  // the last write has
	torn   bool  // it has left a line without its end
}

// NewQueue returns a queue that writes to out, and to nothing else, until Close.
func NewQueue(out io.Writer) *Queue { return newQueue(out, queueBytes, queueLines) }

func newQueue(out io.Writer, bytes, lines int) *Queue {
	q := &Queue{
		out: out, bytes: bytes, lines: lines, drained: func(int64) {},
		wake: make(chan struct{}, 1), closing: make(chan struct{}), abandon: make(chan struct{}), done: make(chan struct{}),
	}
	go q.run()
	return q
}

// OnDrained sets what is called after lines were dropped, once nothing waits any
// more and a write has succeeded, with the number of lines since the last call.
// It may write to the queue.
func (q *Queue) OnDrained(f func(lines int64)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.drained = f
}

// Dropped is how many lines were dropped so far.
func (q *Queue) Dropped() int64 { return q.dropped.Load() }

// Write takes one or more whole lines, as many of them as there is room for. It
// never fails: a log line that is lost is no error of the line's sender.
func (q *Queue) Write(p []byte) (int, error) {
	fits, kept := q.add(p)
	if lost := bytes.Count(p[fits:], newline); lost > 0 {
		q.dropped.Add(int64(lost))
	}
	if kept {
		select {
		case q.wake <- struct{}{}:
		default:
		}
	}
	return len(p), nil
}

var newline = []byte{'\n'}

// add appends what there is room for: how many bytes, and whether run has to be
// woken for them.
func (q *Queue) add(p []byte) (fits int, wake bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return 0, false
	}
	n := bytes.Count(p, newline)
	if len(q.buf)+q.writing+len(p) > q.bytes || q.waits+n > q.lines {
		p, n = q.partLocked(p)
	}
	if len(p) == 0 {
		return 0, false
	}
	wake = len(q.buf) == 0
	q.buf = append(q.buf, p...)
	q.waits += n
	return len(p), wake
}

// partLocked is the whole lines at the beginning of p that there is room for.
func (q *Queue) partLocked(p []byte) (part []byte, lines int) {
	room := q.bytes - len(q.buf) - q.writing
	end := 0
	for q.waits+lines < q.lines {
		i := bytes.IndexByte(p[end:], '\n')
		if i < 0 || end+i+1 > room {
			break
		}
		end += i + 1
		lines++
	}
	return p[:end], lines
}

// Close has what waits written, for a bound, and gives up the rest: a process
// ends whether or not its log is read. Lines that come later are dropped. It may
// be called more than once.
func (q *Queue) Close(bound time.Duration) {
	q.once.Do(func() {
		q.mu.Lock()
		q.closed = true
		q.mu.Unlock()
		close(q.closing)
		timer := time.NewTimer(bound)
		defer timer.Stop()
		select {
		case <-q.done:
		case <-timer.C:
			close(q.abandon)
		}
	})
}

// run writes until the queue is closed and empty.
func (q *Queue) run() {
	defer close(q.done)
	var spare []byte
	for {
		batch, closed := q.take(spare)
		if len(batch) == 0 {
			if closed {
				return
			}
			spare = batch
			select {
			case <-q.wake:
			case <-q.closing:
			}
			continue
		}
		for rest := batch; len(rest) > 0; {
			part := chunk(rest)
			rest = rest[len(part):]
			q.pass(part)
			q.settle(part)
			select {
			case <-q.abandon:
				return
			default:
			}
		}
		spare = nil
		if cap(batch) <= spareBytes {
			spare = batch
		}
		q.tell()
	}
}

// take is all that waits; spare is the buffer for what comes next.
func (q *Queue) take(spare []byte) (batch []byte, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	batch = q.buf
	q.buf, q.writing = spare[:0], len(batch)
	return batch, q.closed
}

// chunk is what is written at once: whole lines.
func chunk(b []byte) []byte {
	if len(b) <= chunkBytes {
		return b
	}
	if end := bytes.LastIndexByte(b[:chunkBytes], '\n'); end >= 0 {
		return b[:end+1]
	}
	if end := bytes.IndexByte(b, '\n'); end >= 0 {
		return b[:end+1]
	}
	return b
}

// pass writes a part. What fails is not repeated, except where the descriptor only
// has no room: on a full disk each part is tried once.
func (q *Queue) pass(part []byte) {
	if q.torn {
		// What comes next begins a line of its own.
		if _, err := q.out.Write(newline); err != nil {
			q.drop(part)
			return
		}
		q.torn = false
	}
	for progress := true; ; {
		n, err := q.out.Write(part)
		if n > 0 {
			q.torn = part[n-1] != '\n'
		}
		part = part[n:]
		switch {
		case err == nil:
			q.failed = false
			return
		case errors.Is(err, syscall.EAGAIN) && q.pause(progress || n > 0):
			progress = n > 0
		default:
			q.drop(part)
			return
		}
	}
}

// pause lets the reader of a non-blocking descriptor read; false when Close has
// given up. Without progress since the last pause it lasts its full time, whatever the
// descriptor says.
func (q *Queue) pause(progress bool) bool {
	if f, ok := q.out.(*os.File); ok && progress {
		room := false
		if control(f, func(fd int) { room = awaitRoom(fd, retryAfter) }) && room {
			select {
			case <-q.abandon:
				return false
			default:
				return true
			}
		}
	}
	timer := time.NewTimer(retryAfter)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-q.abandon:
		return false
	}
}

func (q *Queue) drop(part []byte) {
	q.failed = true
	q.dropped.Add(int64(bytes.Count(part, newline)))
}

// settle makes the room of a part free again.
func (q *Queue) settle(part []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.writing -= len(part)
	q.waits -= bytes.Count(part, newline)
}

// tell reports dropped lines once the log is read again and nothing waits.
func (q *Queue) tell() {
	dropped := q.dropped.Load()
	if q.failed || dropped == q.told {
		return
	}
	q.mu.Lock()
	empty, drained := len(q.buf) == 0, q.drained
	q.mu.Unlock()
	if empty {
		lines := dropped - q.told
		q.told = dropped
		drained(lines)
	}
}
