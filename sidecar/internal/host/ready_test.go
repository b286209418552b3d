package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// pipeFD returns the reader of a pipe, and a descriptor of its writer that a ReadyFD may
// close.
func pipeFD(t *testing.T) (*os.File, int) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	fd, err := unix.Dup(int(w.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	return r, fd
}

// TestWarningsBeforeReady: the parent reads the warnings and errors of the log, then that
// the sidecar is ready, and nothing after that.
func TestWarningsBeforeReady(t *testing.T) {
	reader, fd := pipeFD(t)
	r, err := OpenReadyFD(fd)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(r.Handler(slog.DiscardHandler)).With("slot", 1).WithGroup("g")
	log.Info("sidecar started")
	log.Warn("redis is away", "error", errors.New("connection refused"), "attempt", 2)
	if err := r.Send("redis://h:1/0"); err != nil {
		t.Fatal(err)
	}
	log.Error("later")
	r.Fail(errors.New("later"))
	got, err := io.ReadAll(reader)
	want := fmt.Sprintf(`{"warning":"redis is away: connection refused"}
{"pid":%d,"redis_url":"redis://h:1/0"}
`, os.Getpid())
	if err != nil || string(got) != want {
		t.Errorf("%v: %s; want %s", err, got, want)
	}
}

// TestWarningsAreBounded: the first warnings, cut to a length, and the reason of the end.
func TestWarningsAreBounded(t *testing.T) {
	reader, fd := pipeFD(t)
	r, err := OpenReadyFD(fd)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(r.Handler(slog.DiscardHandler))
	for range 100 {
		log.Warn("a warning", "error", strings.Repeat("é", 5000))
	}
	r.Fail(errors.New("first\nsecond\n"))
	r.Close()
	r.Close()
	got, err := io.ReadAll(reader)
	if err != nil || len(got) > 16<<10 || strings.Count(string(got), "\n") != mostWarnings+1 || !strings.HasSuffix(string(got), "{\"error\":\"first; second\"}\n") {
		t.Errorf("%v: %d bytes, ends with %s", err, len(got), got[max(0, len(got)-60):])
	}
}

// TestWarningsNeverWaitForTheReader: of the smallest pipe there is, and with characters
// that are six times as long in JSON, whole lines arrive and the log goes on.
func TestWarningsNeverWaitForTheReader(t *testing.T) {
	reader, fd := pipeFD(t)
	shrink(t, fd)
	r, err := OpenReadyFD(fd)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(r.Handler(slog.DiscardHandler))
	for range 100 {
		log.Warn("a warning", "error", strings.Repeat("\x01", 5000))
	}
	r.Fail(errors.New(strings.Repeat("\x01", 5000)))
	r.Close()
	got, err := io.ReadAll(reader)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.SplitAfter(string(got), "\n")
	if len(lines) < 2 || lines[len(lines)-1] != "" {
		t.Fatalf("%d bytes, and no whole line at the end", len(got))
	}
	for _, line := range lines[:len(lines)-1] {
		if told := map[string]string{}; json.Unmarshal([]byte(line), &told) != nil || len(line) > 4096 {
			t.Errorf("%d bytes: %.60s", len(line), line)
		}
	}
}
