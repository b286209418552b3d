package simnet

import (
	"io"
	"syscall"
	"time"
)

// pipeWindow is how much a pipe of Linux holds.
const pipeWindow = 64 << 10

// Pipe returns the ends of a pipe as those of the operating system: a write ends when its
// bytes are in the pipe.
func Pipe() (*PipeReader, *PipeWriter) {
	s := newStream(pipeWindow)
	return &PipeReader{s}, &PipeWriter{s}
}

// PipeReader is the end of a pipe that is read.
type PipeReader struct{ s *stream }

// Read waits for bytes and reads them; io.EOF is the end.
func (r *PipeReader) Read(b []byte) (int, error) { return r.s.read(b) }

// ReadNow reads without waiting; an empty pipe is syscall.EAGAIN.
func (r *PipeReader) ReadNow(b []byte) (int, error) {
	n, _, err := r.s.tryRead(b)
	return n, err
}

// SetReadDeadline is that of a [net.Conn].
func (r *PipeReader) SetReadDeadline(t time.Time) error { r.s.setReadDeadline(t); return nil }

// Close makes later writes fail with EPIPE.
func (r *PipeReader) Close() error { r.s.close(syscall.EPIPE); return nil }

// Unread returns how many bytes are in the pipe.
func (r *PipeReader) Unread() int { return r.s.unreadBytes() }

// PipeWriter is the end of a pipe that is written to.
type PipeWriter struct{ s *stream }

// Write writes all bytes.
func (w *PipeWriter) Write(b []byte) (int, error) { return w.s.write(b, 0) }

// SetWriteDeadline is that of a [net.Conn].
func (w *PipeWriter) SetWriteDeadline(t time.Time) error { w.s.setWriteDeadline(t); return nil }

// Close ends the pipe behind the bytes that are in it.
func (w *PipeWriter) Close() error { w.s.end(); return nil }

// Unread returns how many bytes are in the pipe.
func (w *PipeWriter) Unread() int { return w.s.unreadBytes() }

// Hold keeps what is written from now on, and what is in the pipe, from its reader.
func (w *PipeWriter) Hold(held bool) { w.s.hold(held) }

var (
	_ io.ReadCloser  = (*PipeReader)(nil)
	_ io.WriteCloser = (*PipeWriter)(nil)
)
