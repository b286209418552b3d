//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/graflow"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// stopBound is how long a stop may take in a test: the sidecar's own bound is
// 25 s, and only the tests of a stop with work in hand come near it.
const stopBound = 30 * time.Second

// worker is a process that takes tasks from a bench's queue: a sidecar, or
// Graflow's own worker.
type worker struct {
	t     *testing.T
	bench *bench
	id    string // WORKER_ID, unique: names the run's keys
	mark  string // in the environment of every process of this worker
	cmd   *exec.Cmd
	log   *testlog.Buffer
	done  chan struct{} // closed when the process was waited for
	own   bool          // Graflow's own worker
	slots int           // MAX_CONCURRENT_TASKS
}

// setup changes how a worker is started.
type setup struct {
	env  []string // NAME=value
	dir  string   // working directory; default an empty one
	args []string // what follows "sidecar run"; default --graflow
}

var workers struct {
	mu sync.Mutex
	n  int
}

func nextID() string {
	workers.mu.Lock()
	defer workers.mu.Unlock()
	workers.n++
	return fmt.Sprintf("e2e-%d-%d", os.Getpid(), workers.n)
}

// graflow starts what runs this test's Graflow tasks, and stops it when the
// test ends: see stop for what is asserted then.
func (b *bench) graflow(env ...string) *worker {
	b.t.Helper()
	if ownWorker() {
		return b.ownWorker(setup{env: env})
	}
	return b.sidecar(setup{env: env})
}

// sidecar starts `sidecar run`.
func (b *bench) sidecar(s setup) *worker {
	b.t.Helper()
	binary, err := sidecarBinary()
	if err != nil {
		b.t.Fatal(err)
	}
	if s.args == nil {
		s.args = []string{"--graflow"}
	}
	w := b.newWorker(s, binary, append([]string{"run"}, s.args...)...)
	b.t.Cleanup(w.stop)
	return w
}

// ownWorker starts Graflow's worker as its documentation says.
func (b *bench) ownWorker(s setup) *worker {
	b.t.Helper()
	w := b.newWorker(s, producerPython(b.t), "-m", "graflow.worker.main")
	w.own = true
	b.t.Cleanup(w.stop)
	return w
}

func (b *bench) newWorker(s setup, name string, args ...string) *worker {
	b.t.Helper()
	if s.dir == "" {
		s.dir = b.t.TempDir()
	}
	id := nextID()
	w := &worker{t: b.t, bench: b, id: id, mark: "E2E_MARK=" + id, log: &testlog.Buffer{}, done: make(chan struct{})}
	w.cmd = exec.Command(name, args...)
	w.cmd.Dir = s.dir
	w.cmd.Env = append(b.env(
		"WORKER_ID="+id,
		"MAX_CONCURRENT_TASKS=2",
		"SIDECAR_PYTHON="+graflow.Python(b.t),
		w.mark,
	), s.env...)
	w.cmd.Stdout, w.cmd.Stderr = w.log, w.log
	w.cmd.WaitDelay = 5 * time.Second
	for _, kv := range w.cmd.Env {
		if n, ok := strings.CutPrefix(kv, "MAX_CONCURRENT_TASKS="); ok {
			w.slots, _ = strconv.Atoi(n) // some tests set what is no number
		}
	}
	if err := proc.Start(w.cmd); err != nil {
		b.t.Fatal(err)
	}
	go func() {
		defer close(w.done)
		_ = w.cmd.Wait() // the status is in ProcessState
	}()
	b.t.Cleanup(func() {
		if b.t.Failed() {
			b.t.Logf("%s %s wrote:\n%s", filepath.Base(name), strings.Join(args, " "), testlog.Tail(w.log.String()))
		}
	})
	return w
}

// stop ends the worker with SIGTERM and asserts that a sidecar leaves nothing
// behind. It may be called more than once.
func (w *worker) stop() {
	w.t.Helper()
	select {
	case <-w.done: // ended by the test itself
		return
	default:
	}
	w.signal(syscall.SIGTERM)
	if status := w.wait(); status != 0 && !w.own {
		w.t.Errorf("exit status %d after SIGTERM, want 0", status)
	}
	w.assertGone()
}

func (w *worker) signal(sig syscall.Signal) {
	w.t.Helper()
	if err := w.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		w.t.Error(err)
	}
}

// wait waits for the process to end and returns its exit status.
func (w *worker) wait() int {
	w.t.Helper()
	ended := func() bool {
		select {
		case <-w.done:
			return true
		default:
			return false
		}
	}
	if !wait.Within(w.t, stopBound, "the end of the worker", ended) {
		_ = syscall.Kill(-w.cmd.Process.Pid, syscall.SIGKILL)
		<-w.done
	}
	return w.cmd.ProcessState.ExitCode()
}

// assertGone checks that neither a key of the run nor a process is left.
func (w *worker) assertGone() {
	w.t.Helper()
	if pids := proc.Marked(w.t, w.mark); len(pids) > 0 {
		w.t.Errorf("processes left over: %v", pids)
	}
	if w.own {
		return
	}
	// The test's context has ended by now.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	iter := w.bench.redis.Scan(ctx, 0, w.bench.key("sidecar:*"), 1000).Iterator()
	for iter.Next(ctx) {
		key := iter.Val()
		if strings.Contains(key, w.id) {
			w.t.Errorf("key of a run that has ended: %s", key)
		}
		if strings.HasSuffix(key, ":runs") {
			members, err := w.bench.redis.SMembers(ctx, key).Result()
			if err != nil || strings.Contains(strings.Join(members, " "), w.id) {
				w.t.Errorf("still a member of %s: %q, %v", key, members, err)
			}
		}
	}
	if err := iter.Err(); err != nil {
		w.t.Errorf("look for keys left over: %v", err)
	}
	for line := range strings.SplitSeq(w.log.String(), "\n") {
		if strings.HasPrefix(line, "goroutine ") || strings.HasPrefix(line, "panic:") || strings.Contains(line, "DATA RACE") {
			w.t.Errorf("the sidecar itself broke: %s", line)
		}
	}
}

// logLine is one line of the sidecar's log, which is JSON when it does not go
// to a terminal.
type logLine struct {
	Level  string `json:"level"`
	Msg    string `json:"msg"`
	TaskID string `json:"task_id"`
	text   string
}

// atExit is the level of what the sidecar says last, to people, when it ends
// with an error: "sidecar: …".
const atExit = "EXIT"

// lines decodes the log. Any other line that is not JSON is an error: log
// collectors read nothing else.
func (w *worker) lines() []logLine {
	w.t.Helper()
	var lines []logLine
	text := w.log.String()
	for _, line := range strings.SplitAfter(text, "\n") {
		if !strings.HasSuffix(line, "\n") {
			break // still being written
		}
		decoded := logLine{text: strings.TrimSpace(line)}
		if strings.HasPrefix(line, "sidecar: ") {
			decoded.Level = atExit
			lines = append(lines, decoded)
			continue
		}
		if err := json.Unmarshal([]byte(line), &decoded); err != nil {
			w.t.Errorf("a log line that is not JSON: %s", testlog.Tail(line))
			continue
		}
		lines = append(lines, decoded)
	}
	return lines
}
