package protocol

import (
	"io"
	"sync"
)

// outboxFull is how many bytes may wait to be written before senders do too.
const outboxFull = 1 << 20

// outbox is everything that is to be written, and the goroutine that writes it:
// each write takes all that has come in since the last one, so that messages
// that come close together share a write and none waits for another (P8).
type outbox struct {
	w    io.Writer
	wake chan struct{}
	// done is closed when the writing goroutine has ended.
	done chan struct{}

	mu      sync.Mutex
	room    sync.Cond // pending has been taken
	pending []byte
	fresh   bool // nothing was added yet, and something else may have been written
	max     int
	closed  bool
	err     error
}

func newOutbox(w io.Writer, max int) *outbox {
	o := &outbox{w: w, max: max, wake: make(chan struct{}, 1), done: make(chan struct{})}
	o.room.L = &o.mu
	return o
}

// begin has a line end written in front of the first line: the stream may have been
// written to before, without one at the end.
func (o *outbox) begin() { o.fresh = true }

// put adds the line that build appends. It reports false, and adds nothing, if
// the line is over the limit. Once the stream is broken or closed it drops
// lines, which have no reader any more.
func (o *outbox) put(build func(dst []byte) []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.pending) > outboxFull && o.err == nil && !o.closed {
		o.room.Wait()
	}
	if o.err != nil || o.closed {
		return true
	}
	wakes := len(o.pending) == 0
	if o.fresh {
		o.fresh = false
		o.pending = append(o.pending, '\n')
	}
	before := len(o.pending)
	line := build(o.pending)
	if len(line)-before > o.max {
		o.pending = line[:before]
		if wakes && before > 0 {
			o.signal()
		}
		return false
	}
	o.pending = append(line, '\n')
	if wakes {
		o.signal() // else it has been told, and has not come yet
	}
	return true
}

func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default: // it is awake
	}
}

// setMax changes the limit for the lines to come.
func (o *outbox) setMax(max int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.max = max
}

func (o *outbox) limit() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.max
}

// close lets the writing goroutine end once it has written what is there. It
// does not wait for that: done tells.
func (o *outbox) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	o.room.Broadcast()
	o.signal()
}

// run writes until close or until the stream is broken.
func (o *outbox) run() {
	defer close(o.done)
	var batch []byte
	for range o.wake {
		closed := o.take(&batch)
		if len(batch) > 0 {
			n, err := o.w.Write(batch)
			if err == nil && n < len(batch) {
				err = io.ErrShortWrite
			}
			if err != nil {
				o.broken(err)
				return
			}
		}
		if closed {
			return
		}
	}
}

// take swaps what is pending for the batch written last. Neither is kept if it
// has grown large.
func (o *outbox) take(batch *[]byte) (closed bool) {
	if cap(*batch) > keepSize {
		*batch = nil
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	*batch, o.pending = o.pending, (*batch)[:0]
	o.room.Broadcast()
	return o.closed
}

func (o *outbox) broken(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = err
	o.pending = nil
	o.room.Broadcast()
}
