package simnet

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// stream carries bytes in one direction. A write ends when the bytes are on their way; at
// most window of them are. One goroutine may read and one may write at a time.
type stream struct {
	window int

	mu      sync.Mutex
	buf     []byte // written and not read yet
	head    int    // of buf, the bytes before it are read
	base    int64  // offset of buf[head], counted from the first byte
	marks   []mark // arrivals of the bytes in buf, in their order
	latency time.Duration
	rate    int       // bytes a second; 0 is unlimited
	free    time.Time // when the last byte has left the sender
	held    bool      // nothing arrives
	eof     bool      // no bytes follow
	eofAt   time.Time
	broken  error // of all later reads and writes
	unread  error // of later writes: the reader has closed its end
	closed  bool  // the reader has closed its end

	reads, writes side
}

// mark says when the bytes up to an offset arrive.
type mark struct {
	end int64
	at  time.Time
}

// side is the reader or the writer of a stream.
type side struct {
	deadline time.Time
	wake     chan struct{} // one token: something has changed
	timer    *time.Timer
}

func newStream(window int) *stream {
	return &stream{window: window, reads: side{wake: make(chan struct{}, 1)}, writes: side{wake: make(chan struct{}, 1)}}
}

func (s *side) notify() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// wait waits for a token, and until t if it is not zero.
func (s *side) wait(t time.Time) {
	if t.IsZero() {
		<-s.wake
		return
	}
	d := time.Until(t)
	if s.timer == nil {
		s.timer = time.NewTimer(d)
	} else {
		s.timer.Reset(d)
	}
	select {
	case <-s.wake:
		s.timer.Stop()
	case <-s.timer.C:
	}
}

func (s *side) expired(now time.Time) bool {
	return !s.deadline.IsZero() && !now.Before(s.deadline)
}

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// errAgain is the error of a read that would have to wait.
const errAgain = syscall.EAGAIN

func (s *stream) read(b []byte) (int, error) {
	for {
		n, next, err := s.tryRead(b)
		if err != errAgain { //nolint:errorlint // it is never wrapped
			return n, err
		}
		s.reads.wait(next)
	}
}

// tryRead reads what has arrived. With errAgain it returns when it is worth another try.
func (s *stream) tryRead(b []byte) (n int, next time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	switch {
	case s.closed:
		return 0, now, net.ErrClosed
	case s.broken != nil:
		return 0, now, s.broken
	case s.reads.expired(now):
		return 0, now, os.ErrDeadlineExceeded
	case len(b) == 0:
		return 0, now, nil
	}
	next = s.reads.deadline
	if s.held {
		return 0, next, errAgain
	}
	if ready := s.arrivedLocked(now); ready > 0 {
		n = copy(b, s.buf[s.head:s.head+ready])
		s.takeLocked(n)
		s.writes.notify()
		return n, now, nil
	}
	switch {
	case len(s.marks) > 0:
		next = sooner(next, s.marks[0].at)
	case s.eof && !now.Before(s.eofAt):
		return 0, now, io.EOF
	case s.eof:
		next = sooner(next, s.eofAt)
	}
	return 0, next, errAgain
}

// arrivedLocked returns how many bytes have arrived.
func (s *stream) arrivedLocked(now time.Time) int {
	end := s.base
	for _, m := range s.marks {
		if m.at.After(now) {
			break
		}
		end = m.end
	}
	return int(end - s.base)
}

func (s *stream) takeLocked(n int) {
	s.head += n
	s.base += int64(n)
	gone := 0
	for gone < len(s.marks) && s.marks[gone].end <= s.base {
		gone++
	}
	s.marks = s.marks[:copy(s.marks, s.marks[gone:])]
	if s.head == len(s.buf) {
		s.buf, s.head = s.buf[:0], 0
		if cap(s.buf) > keepBuffer {
			s.buf = nil
		}
	}
}

// keepBuffer is the largest buffer that an empty stream keeps.
const keepBuffer = 64 << 10

// write sends bytes, which arrive late by delay.
func (s *stream) write(b []byte, delay time.Duration) (n int, err error) {
	for {
		part, next, err := s.tryWrite(b[n:], delay)
		n += part
		switch {
		case err == errAgain: //nolint:errorlint // it is never wrapped
			s.writes.wait(next)
		case err != nil || n == len(b):
			return n, err
		}
	}
}

func (s *stream) tryWrite(b []byte, delay time.Duration) (n int, next time.Time, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	switch {
	case s.eof:
		return 0, now, net.ErrClosed
	case s.broken != nil:
		return 0, now, s.broken
	case s.unread != nil:
		return 0, now, s.unread
	case s.writes.expired(now):
		return 0, now, os.ErrDeadlineExceeded
	case len(b) == 0:
		return 0, now, nil
	}
	waiting := len(s.buf) - s.head
	n = min(len(b), s.window-waiting)
	if n <= 0 {
		return 0, s.writes.deadline, errAgain
	}
	if s.head > 0 && len(s.buf)+n > cap(s.buf) {
		s.buf = s.buf[:copy(s.buf, s.buf[s.head:])]
		s.head = 0
	}
	s.buf = append(s.buf, b[:n]...)
	s.marks = append(s.marks, mark{s.base + int64(len(s.buf)-s.head), s.arrivalLocked(now, n, delay)})
	s.reads.notify()
	return n, now, nil
}

// arrivalLocked returns when n bytes that are sent now arrive.
func (s *stream) arrivalLocked(now time.Time, n int, delay time.Duration) time.Time {
	at := now
	if s.rate > 0 {
		if s.free.After(now) {
			at = s.free
		}
		at = at.Add(time.Duration(float64(n) / float64(s.rate) * float64(time.Second)))
		s.free = at
	}
	at = at.Add(s.latency + delay)
	if len(s.marks) > 0 && s.marks[len(s.marks)-1].at.After(at) {
		at = s.marks[len(s.marks)-1].at // no byte overtakes another one
	}
	return at
}

// end sends the end of the stream behind the bytes that were written.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.eof {
		return
	}
	s.eof, s.eofAt = true, time.Now().Add(s.latency)
	if len(s.marks) > 0 && s.marks[len(s.marks)-1].at.After(s.eofAt) {
		s.eofAt = s.marks[len(s.marks)-1].at
	}
	s.reads.notify()
	s.writes.notify()
}

// close is the end of the reader: its reads fail with net.ErrClosed, and later writes with
// err.
func (s *stream) close(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.unread == nil {
		s.unread = err
	}
	s.reads.notify()
	s.writes.notify()
}

// fail makes all later reads and writes fail. What is on its way is lost.
func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken == nil {
		s.broken = err
	}
	s.reads.notify()
	s.writes.notify()
}

// hold stops or continues the arrival of bytes.
func (s *stream) hold(held bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = held
	s.reads.notify()
}

// shape sets the latency and the rate of bytes that are written from now on.
func (s *stream) shape(latency time.Duration, rate int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latency, s.rate = latency, rate
}

func (s *stream) setReadDeadline(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads.deadline = t
	s.reads.notify()
}

func (s *stream) setWriteDeadline(t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes.deadline = t
	s.writes.notify()
}

// unreadBytes returns how many bytes were written and not read.
func (s *stream) unreadBytes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.buf) - s.head
}
