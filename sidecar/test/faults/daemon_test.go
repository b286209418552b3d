//go:build faults

package faults

import (
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"
)

// TestSIGKILLOfAWorkerWithADaemon kills a worker that has started a daemon. The sidecar
// notices the death although the daemon, which has left the worker's process group, keeps
// the worker's pipes open. It reads them for a second more, since the worker's last answer
// may still be in them.
func TestSIGKILLOfAWorkerWithADaemon(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.delay = time.Second
	w.crew(1, setup{env: append([]string{daemonVariable + "=6000", "MAX_CONCURRENT_TASKS=1"}, eager...)})
	id := w.one(record{Ms: 700})
	pid := w.runs(id)
	w.hurt("SIGKILL")
	if err := w.hist.Write(history.Event{What: history.Kills, Pid: pid, Text: "test"}); err != nil {
		t.Error(err)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	w.settle(15 * time.Second)
	w.verify("SIGKILL of a worker whose daemon holds its pipes")
}
