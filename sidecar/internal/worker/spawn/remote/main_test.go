package remote

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if role, ok := strings.CutPrefix(os.Args[1], "child="); ok {
			child(role)
		}
	}
	goleak.VerifyTestMain(m)
}

// child is the process that the hosts of the tests run.
func child(role string) {
	switch role {
	case "echo": // until the end of its stdin
		fmt.Fprintln(os.Stderr, "a line for the log here")
		_, _ = io.Copy(os.Stdout, os.Stdin)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		time.Sleep(time.Hour)
	case "environment":
		fmt.Println(strings.Join(os.Environ(), "\n"))
	case "fail":
		fmt.Fprintln(os.Stderr, "I cannot go on")
		os.Exit(3)
	case "deaf":
		_ = os.Stdin.Close()
		time.Sleep(time.Hour)
	}
	os.Exit(0)
}

const patience = 30 * time.Second

func closed(t *testing.T, what string, ch <-chan struct{}) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(patience):
		t.Fatalf("waited %v in vain for %s", patience, what)
	}
}

// folder is a folder that two containers share.
type folder struct {
	t    *testing.T
	path string
	log  *testlog.Buffer
}

func newFolder(t *testing.T) *folder {
	t.Helper()
	dir, err := os.MkdirTemp("", "remote") // the path of t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return &folder{t, filepath.Join(dir, "w.sock"), &testlog.Buffer{}}
}

func (p *folder) logger() *slog.Logger { return slog.New(slog.NewTextHandler(p.log, nil)) }

// hub runs a Hub until stop or the end of the test.
func (p *folder) hub() (h *Hub, stop func()) {
	p.t.Helper()
	h, err := Listen(Config{
		Path: p.path, Mode: 0o660, Version: "1",
		Env: []string{"REDIS_URL=unix://{dir}/r.sock", "LD_PRELOAD=/evil.so", "WORKER_ID=w"}, Log: p.logger(),
	})
	if err != nil {
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
	})
	p.t.Cleanup(stop)
	return h, stop
}

// running is a running host.
type running struct {
	t           *testing.T
	drain, kill context.CancelFunc
	hangup      func()
	done        chan struct{}
	err         error
}

// host runs a Host whose children have a role, until the end of the test.
func (p *folder) host(label, role string) *running {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	return p.hostOf(label, self, "child="+role)
}

func (p *folder) hostOf(label string, command ...string) *running {
	soft, drain := context.WithCancel(context.Background())
	hard, kill := context.WithCancel(context.Background())
	r := &running{t: p.t, drain: drain, kill: kill, done: make(chan struct{})}
	spawner := local.NewSpawner()
	h := NewHost(HostConfig{
		Socket: p.path, Command: command, Name: "test", Env: append(os.Environ(), "OWN=yes"), Label: label, Version: "1",
		StartRetries: 1, KillGrace: 200 * time.Millisecond, Retry: backoff.Policy{Min: time.Millisecond, Max: 20 * time.Millisecond},
		Start: spawner.Start, Log: p.logger(),
	})
	r.hangup = h.Hangup
	go func() {
		defer close(r.done)
		defer spawner.Stop()
		r.err = h.Run(soft, hard)
	}()
	p.t.Cleanup(func() { _ = r.stop() })
	return r
}

// stop ends the host at once and returns the error of its Run.
func (r *running) stop() error {
	r.drain()
	r.kill()
	closed(r.t, "the host's end", r.done)
	return r.err
}

// start makes a hub start a child.
func (p *folder) start(h *Hub, mark string) local.Process {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	c, err := h.Start(ctx, mark)
	if err != nil {
		p.t.Fatal(err)
	}
	return c
}

// finish closes the streams like a pool.
func finish(c local.Process) { _, _, _ = c.Stdin().Close(), c.Stdout().Close(), c.Stderr().Close() }
