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

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/workerlog"
)

// New returns a logger that writes to w; colour allows colours on a terminal.
func New(w io.Writer, format config.LogFormat, level slog.Level, colour bool) *slog.Logger {
	terminal := isTerminal(w)
	if format == config.LogText || (format == config.LogAuto && terminal) {
		return slog.New(named{tint.NewTextHandler(w, &tint.Options{
			Level: level, TimeFormat: time.TimeOnly, NoColor: !terminal || !colour,
		})})
	}
	return slog.New(named{slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level})})
}

// named shows a level above ERROR as ERROR: "ERROR+4" is a name that no search and no
// alert knows. It shortens values as [workerlog.Text] does: a task id or the text of a
// failure may have megabytes, and a line that is longer than the queue is dropped.
type named struct{ slog.Handler }

func (h named) Handle(ctx context.Context, r slog.Record) error {
	r.Level = min(r.Level, slog.LevelError)
	return h.Handler.Handle(ctx, shortened(r))
}

// shortened is the record itself where all its values are short, as nearly all are.
func shortened(r slog.Record) slog.Record {
	long := false
	r.Attrs(func(a slog.Attr) bool {
		long = len(text(a.Value)) > workerlog.MaxText
		return !long
	})
	if !long {
		return r
	}
	short := slog.NewRecord(r.Time, r.Level, r.Message, r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if s := text(a.Value); len(s) > workerlog.MaxText {
			a.Value = slog.StringValue(workerlog.Text(s))
		}
		short.AddAttrs(a)
		return true
	})
	return short
}

// text is a value's where it has one; all others are short.
func text(v slog.Value) string {
	switch v.Kind() {
	case slog.KindString:
		return v.String()
	case slog.KindAny:
		if err, ok := v.Any().(error); ok && err != nil {
			return err.Error()
		}
	}
	return ""
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
