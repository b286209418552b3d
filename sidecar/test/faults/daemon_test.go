//go:build faults

package faults

import (
	"syscall"
	"testing"
	"time"
)

// TestSIGKILLOfAWorkerWithADaemon: a worker's death is seen although a process
// that it started, and that has left its group, keeps its pipes open. They are
// read for a second more, in case that its last answer is among what comes.
func TestSIGKILLOfAWorkerWithADaemon(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.delay = time.Second
	w.crew(1, setup{env: append([]string{daemonVariable + "=6000", "MAX_CONCURRENT_TASKS=1"}, eager...)})
	id := w.one(record{Ms: 700})
	pid := w.runs(id)
	w.hurt("SIGKILL")
	if err := w.hist.write(event{What: kills, Pid: pid, Text: "test"}); err != nil {
		t.Error(err)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	w.settle(15 * time.Second)
	w.verify("SIGKILL of a worker whose daemon holds its pipes")
}
