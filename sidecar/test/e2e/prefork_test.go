//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// event is a line of the sidecar's log about a process.
type event struct {
	Time time.Time `json:"time"`
	Msg  string    `json:"msg"`
	Pid  int       `json:"pid"`
}

// events are the lines so far with that message.
func (w *worker) events(msg string) (found []event) {
	for line := range strings.SplitSeq(w.log.String(), "\n") {
		var e event
		if json.Unmarshal([]byte(line), &e) == nil && e.Msg == msg {
			found = append(found, e)
		}
	}
	return found
}

// await waits for the nth line with that message.
func (w *worker) await(msg string, n int) event {
	w.t.Helper()
	wait.Until(w.t, fmt.Sprintf("%q for the %d. time", msg, n), func() bool { return len(w.events(msg)) >= n })
	return w.events(msg)[n-1]
}

const (
	forkServerReady = "fork server ready"
	workerReady     = "worker ready"
	aloneInstead    = "workers cannot be forked: starting them one by one"
)

// parent of a process.
func parent(t *testing.T, pid int) (ppid int) {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	var state string
	if _, err := fmt.Sscan(rest, &state, &ppid); err != nil {
		t.Fatal(err)
	}
	return ppid
}

func (b *bench) groupOfThree() {
	b.t.Helper()
	var got struct{ Results map[string]int }
	b.report(&got, "group.py", "3")
	equal(b.t, "results", got.Results, map[string]int{"square_0": 0, "square_1": 1, "square_2": 4})
}

// Workers are forks, and children of the sidecar like any other; what they were
// forked from may die.
func TestForkedWorkers(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it forks nothing")
	b := newBench(t)
	w := b.graflow()
	w.await(workerReady, 2)
	server := w.await(forkServerReady, 1).Pid
	workers := w.events(workerReady)
	for _, e := range workers {
		if got := parent(t, e.Pid); got != w.cmd.Process.Pid {
			t.Errorf("the parent of worker %d is %d, not the sidecar, %d", e.Pid, got, w.cmd.Process.Pid)
		}
	}
	b.groupOfThree()

	_ = syscall.Kill(server, syscall.SIGKILL)
	w.await(forkServerReady, 2)
	for _, e := range workers {
		if !proc.Alive(strconv.Itoa(e.Pid)) {
			t.Errorf("worker %d has died with the fork server", e.Pid)
		}
	}
	b.groupOfThree()

	_ = syscall.Kill(workers[0].Pid, syscall.SIGKILL)
	w.await(workerReady, 3)
	b.groupOfThree()
	for _, line := range w.lines() {
		if line.Msg == aloneInstead || strings.Contains(line.Msg, "could not be forked") {
			t.Errorf("not forked: %s", line.text)
		}
	}
}

func TestASidecarThatIsKilledTakesItsForksAlong(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it forks nothing")
	b := newBench(t)
	w := b.graflow()
	w.await(workerReady, 2)
	w.signal(syscall.SIGKILL)
	w.wait()
	wait.Until(t, "the end of every process", func() bool { return len(proc.Marked(t, w.mark)) == 0 })
}

// SIGHUP is how new code comes into use, also that which is imported before a
// worker is forked.
func TestRenewedWorkersHaveNewCode(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it has no such signal")
	b := newBench(t)
	folder := t.TempDir()
	install := func(stamp string) {
		t.Helper()
		text := fmt.Sprintf("import sys\nsys.stamp = %q\n", stamp)
		if err := os.WriteFile(filepath.Join(folder, "sitecustomize.py"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	stamp := func() string {
		t.Helper()
		var got struct{ Stamp string }
		b.report(&got, "stamp.py")
		return got.Stamp
	}
	install("old")
	w := b.graflow("PYTHONPATH=" + folder)
	equal(t, "before", stamp(), "old")
	install("new")
	w.await(workerReady, 2)
	w.signal(syscall.SIGHUP)
	w.await("workers are replaced", 1)
	equal(t, "after", stamp(), "new")
	w.await(forkServerReady, 2)
	if w.signal(syscall.SIGTERM); w.wait() != 0 {
		t.Error("it did not stop well")
	}
	for _, line := range w.lines() {
		if line.Level == "WARN" || line.Level == "ERROR" {
			t.Errorf("a renewal is no fault: %s", line.text)
		}
	}
}

// What cannot be forked soundly is not, and runs all the same.
func TestWorkersThatCannotBeForked(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it forks nothing")
	b := newBench(t)
	folder := t.TempDir()
	thread := "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), daemon=True, name='metrics').start()\n"
	if err := os.WriteFile(filepath.Join(folder, "sitecustomize.py"), []byte(thread), 0o600); err != nil {
		t.Fatal(err)
	}
	w := b.graflow("PYTHONPATH=" + folder)
	b.groupOfThree()
	said := slices.DeleteFunc(w.lines(), func(l logLine) bool { return l.Msg != aloneInstead })
	if len(said) != 1 || !strings.Contains(said[0].text, "metrics") {
		t.Errorf("it said %d times that it does not fork: %v", len(said), said)
	}
}

func TestWithoutAForkServer(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it has none")
	b := newBench(t)
	w := b.graflow("SIDECAR_PREFORK=false")
	b.groupOfThree()
	if len(w.events(forkServerReady)) > 0 {
		t.Error("there is one")
	}
}
