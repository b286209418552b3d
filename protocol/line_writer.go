package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"io"
)

// ErrLineBreak is wrapped by WriteLine's error for a line with a CR or LF in it.
var ErrLineBreak = errors.New("a line end inside a line")

// writeSize is when a LineWriter writes without being told to: what a pipe
// holds.
const writeSize = 64 << 10

// LineWriter writes lines of bounded length to a stream, buffered: nothing need
// reach the stream before Flush, which a sender calls when it has nothing more
// to send at once (P8). An error of the stream stays, as a line may have been
// cut in half. It is for one goroutine at a time.
type LineWriter struct {
	w   io.Writer
	max int
	buf []byte
	err error
}

// NewLineWriter returns a writer of lines to w that are at most max bytes long,
// not counting the line end. max below 1 means DefaultMaxMessageBytes.
func NewLineWriter(w io.Writer, max int) *LineWriter {
	if max < 1 {
		max = DefaultMaxMessageBytes
	}
	return &LineWriter{w: w, max: max}
}

// WriteLine adds a line and its LF. A line over the limit (*TooLongError) or
// with a CR or LF in it (ErrLineBreak) is refused whole and does no harm; any
// other error is the stream's. The writer does not keep line.
func (w *LineWriter) WriteLine(line []byte) error {
	if w.err != nil {
		return w.err
	}
	if len(line) > w.max {
		return &TooLongError{Prefix: bytes.Clone(line[:min(IDWindow, len(line))]), Length: int64(len(line))}
	}
	for _, c := range [...]byte{'\n', '\r'} {
		if i := bytes.IndexByte(line, c); i >= 0 {
			return fmt.Errorf("%w, at byte %d", ErrLineBreak, i)
		}
	}
	if len(w.buf)+len(line)+1 > writeSize {
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if len(line) >= writeSize {
		// Not worth a copy; its LF goes with what comes next.
		if err := w.write(line); err != nil {
			return err
		}
		line = nil
	}
	w.buf = append(append(w.buf, line...), '\n')
	return nil
}

// Flush writes what is buffered.
func (w *LineWriter) Flush() error {
	if w.err != nil || len(w.buf) == 0 {
		return w.err
	}
	err := w.write(w.buf)
	w.buf = w.buf[:0]
	return err
}

// Buffered is the number of bytes that wait for Flush.
func (w *LineWriter) Buffered() int { return len(w.buf) }

func (w *LineWriter) write(b []byte) error {
	n, err := w.w.Write(b)
	if err == nil && n < len(b) {
		err = io.ErrShortWrite
	}
	if err != nil {
		w.err = fmt.Errorf("write a line: %w", err)
	}
	return w.err
}
