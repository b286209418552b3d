package process

import (
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/subproc"
)

// outbox collects the lines for one child's stdin; its writer goroutine sends
// everything collected in one write as soon as the last write is through, so
// batches grow with load and an idle child's line leaves at once.
type outbox struct {
	wake chan struct{} // one token: there is something to write, or it was closed

	mu     sync.Mutex
	buf    []byte
	closed bool
}

func newOutbox() *outbox { return &outbox{wake: make(chan struct{}, 1)} }

// add appends one line; put appends the message's bytes without a newline.
// After close it does nothing: the child is going.
func (o *outbox) add(put func(dst []byte) []byte) {
	o.addAll(func(dst []byte) []byte { return append(put(dst), '\n') })
}

// addAll appends lines; put appends each with its newline.
func (o *outbox) addAll(put func(dst []byte) []byte) {
	o.mu.Lock()
	before := len(o.buf)
	if !o.closed {
		o.buf = put(o.buf)
	}
	tell := before == 0 && len(o.buf) > 0 // else the writer knows, and has not come yet
	o.mu.Unlock()
	if tell {
		o.nudge()
	}
}

// size is how many bytes wait to be written.
func (o *outbox) size() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.buf)
}

// close lets the writer send what is there, and then close the pipe.
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

// keepBuffer is the largest buffer that is kept for the next batch: one 16 MiB
// record must not pin its size for ever.
const keepBuffer = 1 << 20

// write runs until the outbox is closed and empty, a write fails or gone is
// closed; then it closes the pipe. A write that makes no progress for
// deadline fails: the child has stopped reading.
func (o *outbox) write(pipe subproc.WritePipe, deadline time.Duration, gone <-chan struct{}) error {
	defer pipe.Close()
	var spare []byte
	for {
		select {
		case <-o.wake:
		case <-gone:
			return nil
		}
		o.mu.Lock()
		batch, closed := o.buf, o.closed
		o.buf = spare[:0]
		o.mu.Unlock()

		for rest := batch; len(rest) > 0; {
			if err := pipe.SetWriteDeadline(time.Now().Add(deadline)); err != nil {
				return err
			}
			n, err := pipe.Write(rest[:min(len(rest), writeChunk)])
			rest = rest[n:]
			if err != nil && n == 0 {
				return err
			}
		}
		if closed {
			return nil
		}
		spare = nil
		if cap(batch) <= keepBuffer {
			spare = batch
		}
	}
}

// writeChunk bounds one write, so that the deadline measures progress and not
// the size of a record.
const writeChunk = 256 << 10
