package host

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// subject is a sidecar whose state a test sets.
type subject struct {
	mu              sync.Mutex
	status, stuck   string
	ready, stopping chan struct{}
}

func (s *subject) StatusLine() string        { s.mu.Lock(); defer s.mu.Unlock(); return s.status }
func (s *subject) Stalled() string           { s.mu.Lock(); defer s.mu.Unlock(); return s.stuck }
func (s *subject) Ready() <-chan struct{}    { return s.ready }
func (s *subject) Stopping() <-chan struct{} { return s.stopping }

func (s *subject) set(f func()) { s.mu.Lock(); defer s.mu.Unlock(); f() }

func TestTheServiceManagerIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &subject{ready: make(chan struct{}), stopping: make(chan struct{}), status: "starting"}
		var mu sync.Mutex
		var said []string
		heard := func() (all []string) {
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			all, said = said, nil
			return all
		}
		m := manager{app: s, log: slog.New(slog.DiscardHandler), watchdog: 30 * time.Second, say: func(state string) error {
			mu.Lock()
			defer mu.Unlock()
			said = append(said, strings.Fields(state)...)
			return nil
		}}
		done := make(chan struct{})
		var running sync.WaitGroup
		running.Go(func() { m.run(done) })
		expect := func(what string, want ...string) {
			t.Helper()
			if got := heard(); !slices.Equal(got, want) {
				t.Errorf("%s: it said %q, want %q", what, got, want)
			}
		}
		status := func(text string) []string { return strings.Fields("STATUS=" + text + " WATCHDOG=1") }
		expect("at first")
		time.Sleep(statusEvery)
		expect("starting", status("starting")...)
		s.set(func() { s.status = "running" })
		close(s.ready)
		expect("ready", append([]string{"READY=1"}, status("running")...)...)
		time.Sleep(statusEvery)
		expect("nothing new", "WATCHDOG=1")
		s.set(func() { s.status = "redis is away" })
		time.Sleep(statusEvery)
		expect("redis is away", status("redis is away")...)
		s.set(func() { s.stuck = "the claim loop has not moved" })
		time.Sleep(time.Minute)
		expect("stuck")
		s.set(func() { s.stuck = ""; s.status = "stopping" })
		close(s.stopping)
		expect("stopping", append([]string{"STOPPING=1"}, status("stopping")...)...)
		close(done)
		running.Wait()
	})
}

// TestAServiceManagerThatDoesNotRead costs its own messages: each has a bound.
func TestAServiceManagerThatDoesNotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for err == nil { // until its queue is full
		err = notify(path, "STATUS=running")
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("ended with %v", err)
	}
}

// TestWhatTheServiceManagerReads is one message as it was said.
func TestWhatTheServiceManagerReads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := notify(path, "READY=1\nSTATUS=x"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if n, err := l.Read(b); err != nil || string(b[:n]) != "READY=1\nSTATUS=x" {
		t.Errorf("%q, %v", b[:n], err)
	}
	_ = os.Remove(path)
	if err := notify(path, "READY=1"); err == nil {
		t.Error("a socket that is not there was told")
	}
}
