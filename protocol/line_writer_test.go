package protocol

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
)

func TestLineWriter(t *testing.T) {
	var out bytes.Buffer
	w := NewLineWriter(&out, 100_000)
	if err := errors.Join(w.WriteLine([]byte("a")), w.WriteLine([]byte("b"))); err != nil {
		t.Fatal(err)
	}
	if out.Len() != 0 || w.Buffered() != 4 {
		t.Errorf("before Flush: %d bytes written, %d buffered", out.Len(), w.Buffered())
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if out.String() != "a\nb\n" || w.Buffered() != 0 {
		t.Errorf("after Flush: %q written, %d buffered", out.String(), w.Buffered())
	}
}

func TestLineWriterLargeLines(t *testing.T) {
	var out bytes.Buffer
	w := NewLineWriter(&out, 1<<20)
	var want strings.Builder
	for i := range 200 {
		line := strings.Repeat("x", i*i*3)
		want.WriteString(line + "\n")
		if err := w.WriteLine([]byte(line)); err != nil {
			t.Fatal(err)
		}
		if got := w.Buffered(); got > writeSize {
			t.Fatalf("%d bytes are buffered", got)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if out.String() != want.String() {
		t.Error("what was written is not what went in")
	}
}

func TestLineWriterRefuses(t *testing.T) {
	var out bytes.Buffer
	w := NewLineWriter(&out, 4)
	var long *TooLongError
	if err := w.WriteLine([]byte("abcde")); !errors.As(err, &long) || long.Length != 5 {
		t.Errorf("P4: a line over the limit: %v", err)
	}
	for _, line := range []string{"a\nb", "a\r"} {
		if err := w.WriteLine([]byte(line)); !errors.Is(err, ErrLineBreak) {
			t.Errorf("P3: %q: %v", line, err)
		}
	}
	if err := errors.Join(w.WriteLine([]byte("ok")), w.Flush()); err != nil {
		t.Errorf("a refused line must do no harm: %v", err)
	}
	if out.String() != "ok\n" {
		t.Errorf("written: %q", out.String())
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestLineWriterErrorStays(t *testing.T) {
	tests := []struct {
		name  string
		write writerFunc
		want  error
	}{
		{"an error", func([]byte) (int, error) { return 0, os.ErrDeadlineExceeded }, os.ErrDeadlineExceeded},
		{"a short write", func(p []byte) (int, error) { return len(p) - 1, nil }, io.ErrShortWrite},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			calls := 0
			w := NewLineWriter(writerFunc(func(p []byte) (int, error) {
				calls++
				return tt.write(p)
			}), 100)
			if err := w.WriteLine([]byte("a")); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := w.Flush(); !errors.Is(err, tt.want) {
					t.Errorf("Flush: %v", err)
				}
			}
			if err := w.WriteLine([]byte("b")); !errors.Is(err, tt.want) {
				t.Errorf("WriteLine: %v", err)
			}
			if calls != 1 {
				t.Errorf("%d writes; a stream with half a line in it must get no more", calls)
			}
		})
	}
}
