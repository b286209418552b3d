package app_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/remote"
)

// socketPath is in a folder that two containers would share.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "app") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "w.sock")
}

// host is the worker's container; drain has it go, and stop ends it.
func (b *bundle) host(path string) (drain, stop func()) {
	b.t.Helper()
	of := settings(b.t, "", "", b.log).Worker
	soft, cancelSoft := context.WithCancel(context.Background())
	hard, cancelHard := context.WithCancel(context.Background())
	spawner := local.NewSpawner()
	done := make(chan error, 1)
	h := remote.NewHost(remote.HostConfig{
		Socket: path, Command: of.Command, Name: "test", Env: of.Env, Label: "container", Version: "1", KillGrace: time.Second,
		Retry: backoff.Policy{Min: time.Millisecond, Max: 50 * time.Millisecond}, Start: spawner.Start,
		Log: settings(b.t, "", "", b.log).Log,
	})
	go func() {
		defer spawner.Stop()
		done <- h.Run(soft, hard)
	}()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancelSoft()
		cancelHard()
		if err := <-done; err != nil {
			b.t.Error(err)
		}
	}
	b.t.Cleanup(stop)
	return cancelSoft, stop
}

// TestWorkersInAnotherContainer: it starts without any, runs tasks when they
// come, and is unready again when they have gone.
func TestWorkersInAnotherContainer(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	b := setup(t, func(c *config.Config) {
		c.Worker.Command, c.Worker.Socket.Path, c.Slots = nil, path, 2
		c.HTTP.Addr = "127.0.0.1:0"
	})
	if status, text := b.get("/startupz"); status != 200 {
		t.Errorf("its pod would wait for itself: %d %s", status, text)
	}
	b.push(job{TaskID: "a", SessionID: b.prefix}, job{TaskID: "b", SessionID: b.prefix})
	await(t, "a word of it", func() bool { return strings.Contains(b.log.String(), "no worker is connected") })
	if s := b.app.Status(); s.Ready || s.Workers != 0 || len(b.queue()) != 2 {
		t.Errorf("%+v, %v", s, b.queue())
	}
	drain, stop := b.host(path)
	for _, id := range []string{"a", "b"} {
		await(t, id, func() bool { return b.result(b.prefix, id) != "" })
	}
	await(t, "readiness", func() bool { return b.app.Status().Ready })

	gate := filepath.Join(t.TempDir(), "gate")
	b.push(job{TaskID: "last", SessionID: b.prefix, Do: "gate", Path: gate})
	await(t, "the last task", func() bool { _, err := os.Stat(gate + ".started"); return err == nil })
	drain()
	await(t, "the drain", func() bool { return b.app.Status().Capacity == 0 })
	b.push(job{TaskID: "later", SessionID: b.prefix})
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, "what ran to be finished", func() bool { return b.result(b.prefix, "last") != "" })
	stop()
	await(t, "the workers to be gone", func() bool { s := b.app.Status(); return !s.Ready && s.Workers == 0 && s.InFlight == 0 })
	// A wait that was under way when the last worker went may have fetched it.
	await(t, "what was left to be in the queue", func() bool { return len(b.queue()) == 1 })
	if err := b.app.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

// TestGraflowWorkersElsewhereReachRedis through the sidecar, and not without it.
func TestGraflowWorkersElsewhereReachRedis(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	b := setup(t, func(c *config.Config) {
		c.Worker.Command, c.Worker.Socket, c.Worker.Graflow = nil, config.Socket{Path: path, Mode: 0o600}, true
	})
	through := redis.NewClient(&redis.Options{Network: "unix", Addr: path + ".redis", MaxRetries: -1})
	defer through.Close()
	if err := through.Set(t.Context(), b.prefix+":x", "1", time.Minute).Err(); err != nil {
		t.Error(err)
	}
	if got := b.rdb.Get(t.Context(), b.prefix+":x").Val(); got != "1" {
		t.Errorf("%q", got)
	}
	if err := b.app.Close(); err != nil {
		t.Error(err)
	}
	if err := through.Ping(t.Context()).Err(); err == nil {
		t.Error("it is there without the sidecar")
	}
}

// TestASocketThatIsTaken is a matter of configuration, and said at once.
func TestASocketThatIsTaken(t *testing.T) {
	t.Parallel()
	path := socketPath(t)
	b := setup(t, func(c *config.Config) { c.Worker.Command, c.Worker.Socket.Path = nil, path })
	cfg := settings(t, "redis://127.0.0.1:1", "x", b.log)
	cfg.Worker.Command, cfg.Worker.Socket.Path = nil, path
	for _, graflow := range []bool{false, true} {
		cfg.Worker.Graflow = graflow
		_, err := app.Start(t.Context(), cfg)
		if _, ok := errors.AsType[*config.Error](err); !ok || !strings.Contains(err.Error(), "another process serves") {
			t.Errorf("%v", err)
		}
	}
	if left, _ := filepath.Glob(path + ".redis*"); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestWhatASocketExcludes(t *testing.T) {
	t.Parallel()
	b := settings(t, "redis://127.0.0.1:1", "x", nil)
	for want, change := range map[string]func(*config.Config){
		"exclude each other":      func(c *config.Config) { c.Worker.Command = []string{"w"} },
		"mode rpc only":           func(c *config.Config) { c.Mode = config.ModeExec },
		"must be 0600 to 0770":    func(c *config.Config) { c.Worker.Socket.Mode = 0o666 },
		"(SIDECAR_MAX_CHILD_RSS)": func(c *config.Config) { c.Worker.MaxChildRSS = 1 << 30 },
	} {
		cfg := b
		cfg.Worker.Command, cfg.Worker.Socket.Path = nil, "/s"
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
