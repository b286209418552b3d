package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
)

// DefaultMaxMessageBytes is the longest message, in bytes without its line
// end, unless initialize says otherwise (P4).
const DefaultMaxMessageBytes = 16 << 20

// MinMaxMessageBytes is the smallest limit that a sidecar may set (P4): an
// answer that says a task failed must always fit.
const MinMaxMessageBytes = 4096

const (
	// readSize is the smallest buffer of a LineReader: what a pipe holds.
	readSize = 64 << 10
	// keepSize is the largest buffer that outlives the line it was grown for.
	keepSize = 1 << 20
	// maxEmptyReads is how often a reader may return nothing and no error.
	maxEmptyReads = 100
)

// TooLongError reports a line over the limit. A LineReader has skipped that
// line whole and goes on with the next one.
type TooLongError struct {
	// Prefix is a copy of the line's first bytes, at most IDWindow of them.
	Prefix []byte
	// Length is the length of the whole line in bytes, without its end.
	Length int64
}

func (e *TooLongError) Error() string {
	return fmt.Sprintf("a line of %d bytes is over the limit", e.Length)
}

// UnterminatedError reports bytes after the last line end of a stream. They
// are no line (P7): the writer died, or forgot the line end.
type UnterminatedError struct {
	// Tail is a copy of those bytes.
	Tail []byte
}

func (e *UnterminatedError) Error() string {
	return fmt.Sprintf("the stream ended in the middle of a line, after %d bytes of it", len(e.Tail))
}

// LineReader reads lines of bounded length from a stream. It holds at most one
// line and one read, whatever comes in, and gives the memory that a long line
// took back with the next call. It is for one goroutine at a time.
type LineReader struct {
	r   io.Reader
	max int
	// buf[start:end] is unread; buf[start:scan] is known to hold no LF.
	buf              []byte
	start, scan, end int
	skip             skipped
	onSkip           func(part []byte)
	eof              bool
}

// skipped is what is known of an over-long line while it is passed over.
type skipped struct {
	on     bool
	prefix []byte
	length int64
	cr     bool // the last byte so far was a CR
}

// NewLineReader returns a reader of lines from r that are at most max bytes
// long, not counting the line end. max below 1 means DefaultMaxMessageBytes.
func NewLineReader(r io.Reader, max int) *LineReader {
	lr := &LineReader{r: r}
	lr.setMax(max)
	return lr
}

// setMax changes the limit for the lines to come.
func (r *LineReader) setMax(max int) {
	if max < 1 {
		max = DefaultMaxMessageBytes
	}
	r.max = min(max, math.MaxInt-2) // room for the line end
}

// Next returns the next line without its end (LF or CRLF). The line is part of
// the reader's own buffer and valid until the next call. Errors:
//
//   - io.EOF: the stream ended after a line end; every later call says so too.
//   - *TooLongError: a line was over the limit and is skipped; call again.
//   - *UnterminatedError: the stream ended in the middle of a line; then io.EOF.
//   - anything else: the error of the underlying reader, wrapped. Nothing that
//     was read before is lost; calling again reads again.
func (r *LineReader) Next() ([]byte, error) {
	r.release()
	for {
		if i := bytes.IndexByte(r.buf[r.scan:r.end], '\n'); i >= 0 {
			line := r.buf[r.start : r.scan+i]
			r.start = r.scan + i + 1
			r.scan = r.start
			return r.finish(line)
		}
		r.scan = r.end
		// A line of max bytes may be followed by the CR of a CRLF.
		if r.skip.on || r.end-r.start > r.max+1 {
			r.pass(r.buf[r.start:r.end])
			r.start, r.scan, r.end = 0, 0, 0
		}
		if r.eof {
			return r.tail()
		}
		if err := r.fill(); err != nil {
			if errors.Is(err, io.EOF) {
				r.eof = true
				continue
			}
			return nil, fmt.Errorf("read a line: %w", err)
		}
	}
}

// OnSkip has f called with every part of a line over the limit, in their order, while
// that line is skipped. A part is valid during the call. It comes before Next.
func (r *LineReader) OnSkip(f func(part []byte)) { r.onSkip = f }

// Cut takes what has come of a line over the limit for the whole of it, and forgets it:
// what comes next is a new line. It changes nothing elsewhere.
func (r *LineReader) Cut() { r.skip = skipped{} }

// Buffered reports whether Next will return a line without a read.
func (r *LineReader) Buffered() bool { return bytes.IndexByte(r.buf[r.scan:r.end], '\n') >= 0 }

// Partial returns the beginning of a line whose end has not been read: what has
// come of it, or the first bytes of one that is over the limit. It is part of the
// reader's own buffer and valid until the next call of Next.
func (r *LineReader) Partial() []byte {
	if r.skip.on {
		return r.skip.prefix
	}
	return r.buf[r.start:r.end]
}

// finish ends the line whose last part this is.
func (r *LineReader) finish(line []byte) ([]byte, error) {
	if r.skip.on {
		r.pass(line)
		return nil, r.skipEnd(true)
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	if len(line) > r.max {
		r.pass(line)
		return nil, r.skipEnd(false)
	}
	return line, nil
}

// tail ends the stream.
func (r *LineReader) tail() ([]byte, error) {
	rest := r.buf[r.start:r.end]
	r.start, r.scan, r.end = 0, 0, 0
	switch {
	case r.skip.on:
		return nil, r.skipEnd(false)
	case len(rest) > r.max:
		r.pass(rest)
		return nil, r.skipEnd(false)
	case len(rest) > 0:
		return nil, &UnterminatedError{Tail: bytes.Clone(rest)}
	default:
		r.buf = nil
		return nil, io.EOF
	}
}

// pass counts part of an over-long line instead of keeping it.
func (r *LineReader) pass(part []byte) {
	if r.onSkip != nil {
		r.onSkip(part)
	}
	s := &r.skip
	s.on = true
	if n := min(IDWindow-len(s.prefix), len(part)); n > 0 {
		s.prefix = append(s.prefix, part[:n]...)
	}
	s.length += int64(len(part))
	if len(part) > 0 {
		s.cr = part[len(part)-1] == '\r'
	}
}

// skipEnd reports the over-long line that has been passed over. crlf says that
// a CR at its end belonged to the line end.
func (r *LineReader) skipEnd(crlf bool) error {
	s := r.skip
	r.skip = skipped{}
	if crlf && s.cr {
		s.length--
		if int64(len(s.prefix)) > s.length {
			s.prefix = s.prefix[:s.length]
		}
	}
	return &TooLongError{Prefix: s.prefix, Length: s.length}
}

// fill reads once, after making room.
func (r *LineReader) fill() error {
	if r.start > 0 && (r.start == r.end || r.end == len(r.buf)) {
		copy(r.buf, r.buf[r.start:r.end])
		r.end -= r.start
		r.scan -= r.start
		r.start = 0
	}
	if r.end == len(r.buf) {
		// Never more than the longest line and its end need.
		size := max(readSize, min(2*len(r.buf), r.max+2))
		grown := make([]byte, size)
		copy(grown, r.buf[:r.end])
		r.buf = grown
	}
	for range maxEmptyReads {
		n, err := r.r.Read(r.buf[r.end:])
		if n < 0 || n > len(r.buf)-r.end {
			return fmt.Errorf("the reader says it read %d bytes into %d", n, len(r.buf)-r.end)
		}
		if n > 0 {
			// An error that came with bytes comes again with the next read.
			r.end += n
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// release gives a large buffer back once what is left in it fits a small one,
// so that one huge line does not stay in memory while nothing comes.
func (r *LineReader) release() {
	if len(r.buf) <= keepSize || r.end-r.start > readSize/2 {
		return
	}
	small := make([]byte, readSize)
	r.end = copy(small, r.buf[r.start:r.end])
	r.scan -= r.start
	r.start = 0
	r.buf = small
}
