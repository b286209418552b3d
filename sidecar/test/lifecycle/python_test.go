//go:build lifecycle

package lifecycle

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultproxy"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/graflow"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// graflow starts a sidecar with Graflow's adapter and waits for its workers.
func (b *bench) graflow(workers int, env ...string) *sidecar {
	b.t.Helper()
	s := b.start([]string{"--graflow"}, nil, append(env, "SIDECAR_PYTHON="+graflow.Python(b.t))...)
	wait.Until(b.t, "the workers", func() bool { return strings.Count(s.log.String(), `"worker ready"`) == workers })
	s.ready()
	return s
}

// pushGraflow pushes a task of testdata/flight.py, past any proxy, and returns
// the key of its result.
func (b *bench) pushGraflow(task string) string {
	b.t.Helper()
	cmd := exec.Command(graflow.Python(b.t), "testdata/flight.py", "redis://"+b.rdb.Options().Addr+"/0", b.prefix, task, b.dir)
	cmd.Env = proc.Env("TMPDIR")
	out, err := cmd.Output()
	if err != nil {
		b.t.Fatalf("producer: %v\n%s", err, out)
	}
	return "graflow:channel:" + strings.TrimSpace(string(out)) + ":" + task + ".__result__"
}

func (b *bench) has(key string) bool { return b.rdb.Exists(context.Background(), key).Val() == 1 }

// complaints is what no Python child may ever write about a Redis that goes.
func (s *sidecar) complaints() (found []string) {
	for l := range strings.Lines(s.log.String()) {
		if strings.Contains(l, `"worker stderr"`) && (noise.MatchString(l) || netNoise.MatchString(l) || strings.Contains(l, "Error")) {
			found = append(found, l)
		}
	}
	return found
}

// TestAPythonChildAndItsRedis: the three errors that the project comes from
// cannot surface from a Python child either.
func TestAPythonChildAndItsRedis(t *testing.T) {
	t.Parallel()
	// A task in flight when Redis goes sees its calls retried: it notices
	// nothing, and it does not run twice.
	t.Run("in flight", func(t *testing.T) {
		t.Parallel()
		b, server := ownBench(t, "--appendonly", "yes", "--appendfsync", "always")
		s := b.graflow(2)
		result := b.pushGraflow("flight")
		starts := filepath.Join(b.dir, "starts")
		wait.Until(t, "the task to start", func() bool { return exists(starts) })
		server.Stop()
		wait.Pass(1500 * time.Millisecond)
		server.Restart()
		wait.Pass(500 * time.Millisecond)
		b.open(b.gate("gate"))
		wait.Until(t, "its result", func() bool { return b.has(result) })
		if text, _ := os.ReadFile(starts); string(text) != "started\n" {
			t.Errorf("it ran more than once: %q", text)
		}
		s.terminate(3 * time.Second)
		s.silent()
		if found := s.complaints(); len(found) > 0 {
			t.Errorf("the child wrote:\n%s", strings.Join(found, ""))
		}
	})
	// One whose retries are used up is handed back without a word of its own,
	// and runs again when Redis is back.
	t.Run("in flight for longer than its retries", func(t *testing.T) {
		t.Parallel()
		b, server := ownBench(t, "--appendonly", "yes", "--appendfsync", "always")
		s := b.graflow(2, "SIDECAR_REDIS_WORKER_RETRIES=1")
		result := b.pushGraflow("flight")
		starts := filepath.Join(b.dir, "starts")
		wait.Until(t, "the task to start", func() bool { return exists(starts) })
		server.Stop()
		wait.Pass(2 * time.Second)
		b.open(b.gate("gate"))
		server.Restart()
		wait.Until(t, "its result", func() bool { return b.has(result) })
		if text, _ := os.ReadFile(starts); string(text) != "started\nstarted\n" {
			t.Errorf("it did not run again: %q", text)
		}
		if n := b.attempts(); n != 0 {
			t.Errorf("%d attempts were charged", n)
		}
		s.terminate(3 * time.Second)
		s.silent()
		if found := s.complaints(); len(found) > 0 {
			t.Errorf("the child wrote:\n%s", strings.Join(found, ""))
		}
	})
	// A stop with Redis away while a task is in the middle of its retries.
	t.Run("in flight, and stopped", func(t *testing.T) {
		t.Parallel()
		b, server := ownBench(t)
		s := b.graflow(2, "SIDECAR_SHUTDOWN_TIMEOUT=3s")
		b.pushGraflow("flight")
		wait.Until(t, "the task to start", func() bool { return exists(filepath.Join(b.dir, "starts")) })
		server.Kill()
		wait.Pass(500 * time.Millisecond)
		s.terminate(4 * time.Second)
		s.silent()
		if found := s.complaints(); len(found) > 0 {
			t.Errorf("the child wrote:\n%s", strings.Join(found, ""))
		}
	})
	// An idle child polls nothing: it has had its task, and from then on says
	// nothing to Redis and nothing about it.
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		b, proxy, c := tallied(t)
		s := b.graflow(2, "SIDECAR_SHUTDOWN_TIMEOUT=3s")
		result := b.pushGraflow("short")
		wait.Until(t, "its result", func() bool { return b.has(result) })
		c.reset(nil)
		wait.Pass(2 * time.Second)
		c.mu.Lock()
		for name, n := range c.counts {
			if !slices.Contains([]string{"BLMOVE", "PING", "EVALSHA", "CLIENT"}, name) && !handshake(faultproxy.Command{Name: name}) {
				t.Errorf("%s was sent %d times while nothing was to be done", name, n)
			}
		}
		c.mu.Unlock()
		quiet := strings.Count(s.log.String(), `"worker stderr"`)
		proxy.Refuse()
		wait.Pass(3 * time.Second)
		if n := strings.Count(s.log.String(), `"worker stderr"`) - quiet; n > 0 {
			t.Errorf("idle children wrote %d lines while redis was away", n)
		}
		if err := proxy.Accept(); err != nil {
			t.Fatal(err)
		}
		result = b.pushGraflow("short") // on a connection that died meanwhile
		wait.Until(t, "a result after that", func() bool { return b.has(result) })
		proxy.Refuse()
		s.terminate(4 * time.Second)
		s.silent()
		if found := s.complaints(); len(found) > 0 {
			t.Errorf("the children wrote:\n%s", strings.Join(found, ""))
		}
	})
}
