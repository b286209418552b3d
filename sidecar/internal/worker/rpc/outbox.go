package rpc

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// outbox collects the lines for one child's stdin. Its writer goroutine writes
// everything collected as soon as the last write has ended: batches grow with the load,
// and the line for an idle child is written at once.
type outbox struct {
	wake chan struct{} // one token: there are lines to write, or the outbox was closed

	mu     sync.Mutex
	sealed [][]byte // large parts of the waiting lines, before buf
	buf    []byte
	bytes  int // in sealed and buf
	closed bool
	added  int64 // bytes since the start
	// moved is closed with the next write that makes progress; nil if waitBelow does not
	// wait for one.
	moved chan struct{}

	written atomic.Int64 // bytes since the start
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

// sealAt is the length at which a part is complete and the next one begins. One buffer
// for large records would be copied repeatedly while it grows.
const sealAt = 64 << 10

// add appends one line; put appends the bytes of the message without a newline. It
// returns where the line ends, counted in bytes since the start. After close it does
// nothing, because the child is ending.
func (o *outbox) add(put func(dst []byte) []byte) (end int64) {
	o.addAll(1, func(dst []byte, _ int) []byte { return put(dst) }, func(_ int, at int64) { end = at })
	return end
}

// addAll appends n lines; put appends the bytes of line i without a newline. A call of
// put that appends nothing makes no line. ends is called with the index and the end of
// each line, counted in bytes since the start.
func (o *outbox) addAll(n int, put func(dst []byte, i int) []byte, ends func(i int, end int64)) {
	o.mu.Lock()
	before := o.bytes
	for i := 0; i < n && !o.closed; i++ {
		had := len(o.buf)
		buf := put(o.buf, i)
		if len(buf) == had {
			continue
		}
		o.buf = append(buf, '\n')
		o.bytes += len(o.buf) - had
		o.added += int64(len(o.buf) - had)
		ends(i, o.added)
		if len(o.buf) >= sealAt {
			o.sealed, o.buf = append(o.sealed, o.buf), nil
		}
	}
	tell := before == 0 && o.bytes > 0 // otherwise the writer has a token already
	o.mu.Unlock()
	if tell {
		o.nudge()
	}
}

// take empties the outbox. spare is an empty buffer that will be filled next.
func (o *outbox) take(spare []byte) (parts [][]byte, last []byte, closed bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	parts, last = o.sealed, o.buf
	o.sealed, o.buf, o.bytes = nil, spare, 0
	return parts, last, o.closed
}

// unread returns the number of bytes that are not written yet, including those that the
// writer has taken.
func (o *outbox) unread() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.unreadLocked()
}

func (o *outbox) unreadLocked() int { return int(o.added - o.written.Load()) }

// waitBelow waits until at most most bytes are unwritten. It returns false if ctx ends
// first.
func (o *outbox) waitBelow(ctx context.Context, most int) bool {
	for {
		o.mu.Lock()
		if o.unreadLocked() <= most {
			o.mu.Unlock()
			return true
		}
		if o.moved == nil {
			o.moved = make(chan struct{})
		}
		moved := o.moved
		o.mu.Unlock()
		select {
		case <-moved:
		case <-ctx.Done():
			return false
		}
	}
}

// wrote records n written bytes.
func (o *outbox) wrote(n int) {
	o.written.Add(int64(n))
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.moved != nil {
		close(o.moved)
		o.moved = nil
	}
}

// close has the writer write the remaining lines and then close the pipe.
func (o *outbox) close() {
	o.mu.Lock()
	o.closed = true
	o.mu.Unlock()
	o.nudge()
}

func (o *outbox) nudge() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// write runs until the outbox is closed and empty, a write fails or gone is closed, and
// then closes the pipe. It does not close the pipe if the reader has closed its end:
// the bytes that are left in the pipe of an ended child show what the child has not
// read. A write that makes no progress for deadline fails, because the child has
// stopped reading.
func (o *outbox) write(pipe local.WritePipe, deadline time.Duration, gone <-chan struct{}) (err error) {
	defer func() {
		if !errors.Is(err, syscall.EPIPE) {
			_ = pipe.Close()
		}
	}()
	var spare []byte
	for {
		select {
		case <-o.wake:
		case <-gone:
			return nil
		}
		parts, last, closed := o.take(spare[:0])
		for i, part := range parts {
			parts[i] = nil // releases the memory once it is written
			if err := o.writeAll(pipe, part, deadline); err != nil {
				return err
			}
		}
		if err := o.writeAll(pipe, last, deadline); err != nil {
			return err
		}
		if closed {
			return nil
		}
		spare = last
	}
}

func (o *outbox) writeAll(pipe local.WritePipe, rest []byte, deadline time.Duration) error {
	for len(rest) > 0 {
		if err := pipe.SetWriteDeadline(time.Now().Add(deadline)); err != nil {
			return err
		}
		n, err := pipe.Write(rest[:min(len(rest), writeChunk)])
		rest = rest[n:]
		o.wrote(n)
		if err != nil && n == 0 {
			return err
		}
	}
	return nil
}

// writeChunk bounds one write, so that the deadline measures progress and not the size
// of a record.
const writeChunk = 256 << 10
