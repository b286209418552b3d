package host

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// ReadyFD tells the parent process that the sidecar is ready, on a descriptor that
// the parent opened. (Not a file: nothing is left behind, and its end of file tells
// the parent that the sidecar is gone.) Before that it passes on the first warnings of the
// log, so that a parent which gives up can say why.
//
// Its methods may be called concurrently: a reader that lets the pipe be full holds
// up Send and nothing else, and costs warnings only.
type ReadyFD struct {
	file *os.File
	once sync.Once

	mu       sync.Mutex
	warnings int  // that were passed on
	closed   bool // nothing more is written but by Send
}

const (
	mostWarnings = 16
	// longestWarning is in bytes. As JSON a text has six times as many at most, and a line
	// with it fewer than the 4,096 that a pipe takes at once or not at all.
	longestWarning = 640
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
	r.silence()
	line, err := json.Marshal(map[string]any{"redis_url": redisURL, "pid": os.Getpid()})
	if err == nil {
		_, err = r.file.Write(append(line, '\n'))
	}
	r.Close()
	return err
}

// Fail tells why the sidecar ends before it is ready.
func (r *ReadyFD) Fail(err error) {
	r.note("error", strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; "))
}

// note writes a line of one member, or drops it: it never waits for the reader.
func (r *ReadyFD) note(member, text string) {
	if len(text) > longestWarning {
		text = strings.ToValidUTF8(text[:longestWarning], "") + "…"
	}
	line, err := json.Marshal(map[string]string{member: text})
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.file == nil || member == "warning" && r.warnings >= mostWarnings || !hasSpace(r.file) {
		return
	}
	r.warnings++
	_, _ = r.file.Write(append(line, '\n'))
}

// hasSpace reports whether a write of at most PIPE_BUF bytes, 4,096 on Linux, would not
// wait: POLLOUT says that of a pipe (pipe(7)).
func hasSpace(f *os.File) bool {
	ready := false
	conn, err := f.SyscallConn()
	if err != nil {
		return false
	}
	_ = conn.Control(func(fd uintptr) {
		set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}
		n, err := unix.Poll(set, 0)
		ready = err == nil && n == 1 && set[0].Revents&unix.POLLOUT != 0
	})
	return ready
}

// open reports whether a warning may still be passed on.
func (r *ReadyFD) open() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.closed
}

// silence ends the warnings.
func (r *ReadyFD) silence() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}

// Close closes the descriptor. It may be called more than once.
func (r *ReadyFD) Close() {
	if r.file == nil {
		return
	}
	r.silence()
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
	return h.Handler.Enabled(ctx, level) || level >= slog.LevelWarn && h.ready.open()
}

// Handle passes a record on to both.
func (h readyHandler) Handle(ctx context.Context, record slog.Record) error {
	if record.Level >= slog.LevelWarn && h.ready.open() {
		text := record.Message
		record.Attrs(func(a slog.Attr) bool {
			if a.Key == "error" || a.Key == "reason" || a.Key == "hint" {
				text += ": " + a.Value.String()
			}
			return true
		})
		h.ready.note("warning", text)
	}
	if !h.Handler.Enabled(ctx, record.Level) {
		return nil
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
