// Package logging makes the sidecar's logger.
package logging

import (
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

// New returns a logger that writes to w; colour allows colours on a terminal.
func New(w io.Writer, format Format, level slog.Level, colour bool) *slog.Logger {
	terminal := isTerminal(w)
	if format == Text || (format == Auto && terminal) {
		return slog.New(tint.NewTextHandler(w, &tint.Options{
			Level: level, TimeFormat: time.TimeOnly, NoColor: !terminal || !colour,
		}))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level}))
}

func isTerminal(w io.Writer) bool {
	if q, queued := w.(*Queue); queued {
		w = q.out
	}
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
