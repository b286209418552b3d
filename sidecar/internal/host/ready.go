package host

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"sync"
)

// ReadyFD tells the parent process that the sidecar is ready, on a descriptor that
// the parent opened. (Not a file: nothing is left behind, and its end of file tells
// the parent that the sidecar is gone.) Before that it passes on the first warnings of the
// log, so that a parent which gives up can say why.
//
// Its methods may be called concurrently: a reader that lets the pipe be full holds
// up Send and nothing else.
type ReadyFD struct {
	file *os.File
	once sync.Once

	mu       sync.Mutex
	warnings int  // that were passed on
	closed   bool // nothing more is written
}

// A pipe holds all warnings of this number and length, so that no write of one waits.
const (
	mostWarnings   = 16
	longestWarning = 1024 // bytes
)

// OpenReadyFD checks the descriptor while the command line can still be blamed.
func OpenReadyFD(fd int) (*ReadyFD, error) {
	if fd == NoFD {
		return &ReadyFD{}, nil
	}
	f, err := inherited("ready-fd", fd)
	if err != nil {
		return nil, err
	}
	return &ReadyFD{file: f}, nil
}

// Send tells it, once.
func (r *ReadyFD) Send(redisURL string) error {
	if r.file == nil {
		return nil
	}
	err := r.write(map[string]any{"redis_url": redisURL, "pid": os.Getpid()})
	r.Close()
	return err
}

// Fail tells why the sidecar ends before it is ready.
func (r *ReadyFD) Fail(err error) {
	r.note("error", strings.Join(strings.Split(strings.TrimSpace(err.Error()), "\n"), "; "))
}

// note writes a line of one member, if there is room for it.
func (r *ReadyFD) note(member, text string) {
	r.mu.Lock()
	full := r.closed || r.file == nil || r.warnings >= mostWarnings && member != "error"
	r.warnings++
	r.mu.Unlock()
	if full {
		return
	}
	if len(text) > longestWarning {
		text = strings.ToValidUTF8(text[:longestWarning], "") + "…"
	}
	_ = r.write(map[string]any{member: text})
}

func (r *ReadyFD) write(members map[string]any) error {
	line, err := json.Marshal(members)
	if err == nil {
		_, err = r.file.Write(append(line, '\n'))
	}
	return err
}

// Close closes the descriptor. It may be called more than once.
func (r *ReadyFD) Close() {
	if r.file == nil {
		return
	}
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.once.Do(func() { _ = r.file.Close() })
}

// Handler returns a handler that passes warnings and errors on until the sidecar is ready:
// the message, and what the attributes error, reason and hint say.
func (r *ReadyFD) Handler(next slog.Handler) slog.Handler {
	if r.file == nil {
		return next
	}
	return readyHandler{next, r}
}

type readyHandler struct {
	slog.Handler

	ready *ReadyFD
}

// Enabled reports whether either takes records of a level.
func (h readyHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn || h.Handler.Enabled(ctx, level)
}

// Handle passes a record on to both.
func (h readyHandler) Handle(ctx context.Context, record slog.Record) error {
	if record.Level >= slog.LevelWarn {
		text := record.Message
		record.Attrs(func(a slog.Attr) bool {
			if a.Key == "error" || a.Key == "reason" || a.Key == "hint" {
				text += ": " + a.Value.String()
			}
			return true
		})
		h.ready.note("warning", text)
		if !h.Handler.Enabled(ctx, record.Level) {
			return nil
		}
	}
	return h.Handler.Handle(ctx, record)
}

// WithAttrs returns a handler whose records have more attributes.
func (h readyHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return readyHandler{h.Handler.WithAttrs(attrs), h.ready}
}

// WithGroup returns a handler that opens a group.
func (h readyHandler) WithGroup(name string) slog.Handler {
	return readyHandler{h.Handler.WithGroup(name), h.ready}
}
