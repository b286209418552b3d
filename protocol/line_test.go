package protocol

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

// event is what one call of Next said, comparable: a line, or what was wrong.
type event struct {
	kind   string // line, long, cut, eof, error
	text   string // the line, the prefix or the tail
	length int64
}

func (e event) String() string { return fmt.Sprintf("%s %q %d", e.kind, e.text, e.length) }

// next makes an event of one call.
func next(r *LineReader) event {
	line, err := r.Next()
	var long *TooLongError
	var cut *UnterminatedError
	switch {
	case err == nil:
		return event{"line", string(line), 0}
	case errors.As(err, &long):
		return event{"long", string(long.Prefix), long.Length}
	case errors.As(err, &cut):
		return event{"cut", string(cut.Tail), 0}
	case errors.Is(err, io.EOF):
		return event{"eof", "", 0}
	default:
		return event{"error", err.Error(), 0}
	}
}

// events reads to the end of the stream.
func events(r *LineReader) []event {
	var all []event
	for {
		e := next(r)
		all = append(all, e)
		if e.kind == "eof" || e.kind == "error" {
			return all
		}
	}
}

func TestLineReader(t *testing.T) {
	x := strings.Repeat
	eof := event{kind: "eof"}
	tests := []struct {
		name string
		in   string
		max  int
		want []event
	}{
		{"nothing", "", 10, []event{eof}},
		{"P2 a line ends with LF", "a\nb\n", 10, []event{{"line", "a", 0}, {"line", "b", 0}, eof}},
		{"P2 a line may end with CRLF", "a\r\n\r\nb\r\n", 10, []event{{"line", "a", 0}, {"line", "", 0}, {"line", "b", 0}, eof}},
		{"a CR that ends no line is part of it", "a\rb\r\r\n", 10, []event{{"line", "a\rb\r", 0}, eof}},
		{"empty lines", "\n\na\n", 10, []event{{"line", "", 0}, {"line", "", 0}, {"line", "a", 0}, eof}},
		{"P4 exactly the limit", "abcd\nabcd\r\n", 4, []event{{"line", "abcd", 0}, {"line", "abcd", 0}, eof}},
		{"P4 one over the limit, then a good line", "abcde\nok\n", 4, []event{{"long", "abcde", 5}, {"line", "ok", 0}, eof}},
		{"P4 one over the limit with CRLF", "abcde\r\nok\n", 4, []event{{"long", "abcde", 5}, {"line", "ok", 0}, eof}},
		{
			"P4 far over the limit: only the first bytes are kept", x("y", 300_000) + "\r\nok\n", 1000,
			[]event{{"long", x("y", IDWindow), 300_000}, {"line", "ok", 0}, eof},
		},
		{
			"two long lines in a row", x("y", 70_000) + "\n" + x("z", 70_000) + "\nok\n", 10,
			[]event{{"long", x("y", IDWindow), 70_000}, {"long", x("z", IDWindow), 70_000}, {"line", "ok", 0}, eof},
		},
		{"P7 an unterminated tail", "a\nbc", 10, []event{{"line", "a", 0}, {"cut", "bc", 0}, eof}},
		{"P7 a tail that ends with CR", "bc\r", 10, []event{{"cut", "bc\r", 0}, eof}},
		{"P7 a long unterminated tail", "a\nabcde", 4, []event{{"line", "a", 0}, {"long", "abcde", 5}, eof}},
		{"a tail of exactly the limit", "abcd", 4, []event{{"cut", "abcd", 0}, eof}},
		{"bytes that are no text", "\x00\xff\n\xfe", 10, []event{{"line", "\x00\xff", 0}, {"cut", "\xfe", 0}, eof}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for name, r := range map[string]io.Reader{
				"whole":          strings.NewReader(tt.in),
				"byte by byte":   iotest.OneByteReader(strings.NewReader(tt.in)),
				"halves":         iotest.HalfReader(strings.NewReader(tt.in)),
				"EOF with bytes": iotest.DataErrReader(strings.NewReader(tt.in)),
			} {
				got := events(NewLineReader(r, tt.max))
				if !reflect.DeepEqual(got, tt.want) {
					t.Errorf("%s: got %v, want %v", name, got, tt.want)
				}
			}
		})
	}
}

func TestLineReaderShowsWhatItSkips(t *testing.T) {
	long := strings.Repeat("a", 200<<10) + "b\r"
	r := NewLineReader(strings.NewReader("short\n"+long+"\nsixteen-bytes-16\nshort\n"+long), 15)
	var shown strings.Builder
	r.OnSkip(func(part []byte) { shown.Write(part) })
	events(r)
	if want := long + "sixteen-bytes-16" + long; shown.String() != want {
		t.Errorf("%d bytes, want %d", shown.Len(), len(want))
	}
}

func TestLineReaderCutsALongLine(t *testing.T) {
	var parts []string
	r := NewLineReader(readerFunc(func(p []byte) (int, error) {
		if len(parts) == 0 {
			return 0, errors.New("a pause")
		}
		n := copy(p, parts[0])
		parts = parts[1:]
		return n, nil
	}), 15)
	for _, part := range []string{"short\n", "a line over the limit", "short\nst"} {
		parts = append(parts, part)
		if line, err := r.Next(); part[0] == 's' && (string(line) != "short" || err != nil) {
			t.Errorf("got %q, %v", line, err)
		}
		r.Cut()
	}
	if got := string(r.Partial()); got != "st" {
		t.Errorf("%q is left", got)
	}
}

func TestLineReaderEndStays(t *testing.T) {
	r := NewLineReader(strings.NewReader("a"), 10)
	for i, want := range []string{"cut", "eof", "eof"} {
		if got := next(r).kind; got != want {
			t.Errorf("call %d: got %s, want %s", i, got, want)
		}
	}
}

// A deadline that passes in the middle of a line must not cost the line.
func TestLineReaderGoesOnAfterError(t *testing.T) {
	r := NewLineReader(io.MultiReader(
		strings.NewReader("ab"), iotest.ErrReader(os.ErrDeadlineExceeded),
	), 10)
	if _, err := r.Next(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %v, want the reader's own error", err)
	}
	r.r = strings.NewReader("c\n")
	if got, want := next(r), (event{"line", "abc", 0}); got != want {
		t.Errorf("after the error: got %v, want %v", got, want)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestLineReaderBadReaders(t *testing.T) {
	tests := []struct {
		name string
		read readerFunc
	}{
		{"always nothing", func([]byte) (int, error) { return 0, nil }},
		{"more than fits", func(p []byte) (int, error) { return len(p) + 1, nil }},
		{"less than nothing", func([]byte) (int, error) { return -1, nil }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := next(NewLineReader(tt.read, 10)); got.kind != "error" {
				t.Errorf("got %v, want an error", got)
			}
		})
	}
}

// One huge line is not kept in memory once it has been used, and one over the
// limit never is.
func TestLineReaderMemory(t *testing.T) {
	const limit = 16 << 20
	t.Run("a line of the limit", func(t *testing.T) {
		in := io.MultiReader(strings.NewReader(strings.Repeat("x", limit)+"\n"), strings.NewReader("small\n"))
		r := NewLineReader(in, limit)
		if line, err := r.Next(); err != nil || len(line) != limit {
			t.Fatalf("got %d bytes, %v", len(line), err)
		}
		if got := len(r.buf); got > limit+2 {
			t.Errorf("the buffer has %d bytes for a line of %d", got, limit)
		}
		if got := next(r); got.text != "small" {
			t.Fatalf("got %v", got)
		}
		if got := len(r.buf); got > readSize {
			t.Errorf("the buffer keeps %d bytes after the long line", got)
		}
	})
	t.Run("a line over the limit", func(t *testing.T) {
		endless := readerFunc(func(p []byte) (int, error) {
			for i := range p {
				p[i] = 'x'
			}
			return len(p), nil
		})
		const length = 64 << 20
		r := NewLineReader(io.MultiReader(io.LimitReader(endless, length), strings.NewReader("\nok\n")), 100_000)
		if got := next(r); got.kind != "long" || got.length != length {
			t.Errorf("got %s of %d bytes", got.kind, got.length)
		}
		if got := len(r.buf); got > 100_002 {
			t.Errorf("the buffer has %d bytes, the limit is 100000", got)
		}
		if got := next(r); got.text != "ok" {
			t.Errorf("the line after it: %v", got)
		}
	})
}

func TestLineReaderKeepsWhatFollowsALongLine(t *testing.T) {
	// The buffer shrinks while the lines after the long one are in it.
	long := strings.Repeat("x", 3<<20)
	r := NewLineReader(strings.NewReader(long+"\n"+strings.Repeat("small\n", 1000)), 4<<20)
	if got := next(r); got.text != long {
		t.Fatalf("the long line: %d bytes", len(got.text))
	}
	for i := range 1000 {
		if got := next(r); got != (event{"line", "small", 0}) {
			t.Fatalf("line %d: %v", i, got)
		}
	}
	if got := next(r); got.kind != "eof" {
		t.Errorf("at the end: %v", got)
	}
}
