// Package logging makes the sidecar's logger.
package logging

import (
	"context"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// Format says how lines look.
type Format string

const (
	Auto Format = "auto" // Text on a terminal, JSON elsewhere
	JSON Format = "json" // one object a line, for machines
	Text Format = "text" // readable, with colours on a terminal
)

// LevelCritical is that of a worker's lines that are more than an error, such as
// Python's CRITICAL. A log shows it as ERROR.
const LevelCritical = slog.LevelError + 4

// New returns a logger that writes to w; colour allows colours on a terminal.
func New(w io.Writer, format Format, level slog.Level, colour bool) *slog.Logger {
	terminal := isTerminal(w)
	if format == Text || (format == Auto && terminal) {
		return slog.New(named{tint.NewTextHandler(w, &tint.Options{
			Level: level, TimeFormat: time.TimeOnly, NoColor: !terminal || !colour,
		})})
	}
	return slog.New(named{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})})
}

// named shows a level above ERROR as ERROR: "ERROR+4" is a name that no search and no
// alert knows.
type named struct{ slog.Handler }

func (h named) Handle(ctx context.Context, r slog.Record) error {
	r.Level = min(r.Level, slog.LevelError)
	return h.Handler.Handle(ctx, r)
}

func (h named) WithAttrs(attrs []slog.Attr) slog.Handler { return named{h.Handler.WithAttrs(attrs)} }
func (h named) WithGroup(name string) slog.Handler       { return named{h.Handler.WithGroup(name)} }

func isTerminal(w io.Writer) bool {
	if q, queued := w.(*Queue); queued {
		w = q.out
	}
	f, ok := w.(*os.File)
	is := false
	return ok && control(f, func(fd int) { is = term.IsTerminal(fd) }) && is
}

// control calls do with the descriptor of a file, and reports whether it did. It is
// there in place of File.Fd, which makes a file blocking that is not.
func control(f *os.File, do func(fd int)) bool {
	conn, err := f.SyscallConn()
	return err == nil && conn.Control(func(fd uintptr) { do(int(fd)) }) == nil
}
