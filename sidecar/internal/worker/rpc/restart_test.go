package rpc_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// brokenVariable names a file: while it exists, no worker starts.
const brokenVariable = "PROCESS_TEST_BROKEN"

func init() {
	menu["may be broken"] = func() {
		if _, err := os.Stat(os.Getenv(brokenVariable)); err == nil {
			fmt.Fprintln(os.Stderr, "the new version has a typo")
			os.Exit(1)
		}
		serve(1)
	}
}

func (b *bundle) pids() map[int]bool {
	pids := make(map[int]bool)
	for _, s := range b.pool.Slots() {
		pids[s.Pid] = true
	}
	return pids
}

// touched returns how many of the processes still serve.
func (b *bundle) touched(old map[int]bool) (n int) {
	for pid := range b.pids() {
		if old[pid] {
			n++
		}
	}
	return n
}

func TestRestartReplacesEveryChildAndLosesNothing(t *testing.T) {
	b := setup(t, "good", func(c *rpc.Config) { c.Slots = 3 })
	wait.Until(t, "three children", func() bool { return b.pool.Up() == 3 })
	old := b.pids()
	const n = 600
	seen := make(map[string]bool)
	for i := range n {
		b.push("", "")
		if i == 100 {
			b.pool.Restart()
		}
		o := b.next()
		for o.Conclusion == task.Returned { // refused, since the child was ending
			b.queue.Offer([]task.Task{o.Task})
			o = b.next()
		}
		if o.Conclusion != task.Succeeded || seen[o.Task.Delivery] {
			t.Fatalf("%s: %v: %s", o.Task.Info.TaskID, o.Conclusion, o.Message)
		}
		seen[o.Task.Delivery] = true
	}
	wait.Until(t, "three new children", func() bool { return b.pool.Up() == 3 && b.touched(old) == 0 })
	wait.Until(t, "the end of the round", func() bool { return strings.Contains(b.log.String(), "workers are replaced") })
	wait.Until(t, "free slots", func() bool { return b.queue.Counts() == dispatch.Counts{Capacity: 3} })
}

// TestATaskOutlivesTheReplacementOfItsChild: the replacement is up and gets no task
// while the only slot is in use. The task ends where it began, and never runs twice.
func TestATaskOutlivesTheReplacementOfItsChild(t *testing.T) {
	b := setup(t, "good", nil)
	gate := filepath.Join(t.TempDir(), "gate")
	b.push("gate", gate)
	wait.Until(t, "it to start", func() bool { _, err := os.Stat(gate + ".started"); return err == nil })
	old := b.pids()
	b.pool.Restart()
	wait.Until(t, "the successor", func() bool { return strings.Count(b.log.String(), "worker ready") == 2 })
	wait.Until(t, "both to be there", func() bool { return b.pool.Up() == 1 && len(b.pool.Slots()) == 2 })
	if b.touched(old) != 1 {
		t.Error("the busy child is gone")
	}
	b.push("", "")
	wait.Until(t, "the second task to wait", func() bool { return b.queue.Counts() == dispatch.Counts{Capacity: 1, Running: 1, Ready: 1} })
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if o := b.next(); o.Conclusion != task.Succeeded {
			t.Errorf("%s: %v: %s", o.Task.Info.TaskID, o.Conclusion, o.Message)
		}
	}
	wait.Until(t, "the new child", func() bool { return b.pool.Up() == 1 && b.touched(old) == 0 })
}

// TestAReplacementThatDoesNotStartChangesNothing: a broken new version of the worker
// does not replace one that works.
func TestAReplacementThatDoesNotStartChangesNothing(t *testing.T) {
	broken := filepath.Join(t.TempDir(), "broken")
	b := setup(t, "may be broken", func(c *rpc.Config) {
		c.Slots, c.Env = 2, append(c.Env, brokenVariable+"="+broken)
	})
	wait.Until(t, "two children", func() bool { return b.pool.Up() == 2 })
	old := b.pids()
	if err := os.WriteFile(broken, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for round := 1; round <= 2; round++ {
		b.pool.Restart()
		wait.Until(t, "the round's end", func() bool { return strings.Count(b.log.String(), "the old ones stay") == round })
	}
	if b.touched(old) != 2 || !strings.Contains(b.log.String(), "the new version has a typo") {
		t.Errorf("%d of 2 old children serve", b.touched(old))
	}
	b.push("", "")
	if o := b.next(); o.Conclusion != task.Succeeded {
		t.Errorf("%v: %s", o.Conclusion, o.Message)
	}
}

// TestAStopDuringARestartLeavesNoProcess: at any moment of the restart.
func TestAStopDuringARestartLeavesNoProcess(t *testing.T) {
	for _, pause := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 60 * time.Millisecond} {
		t.Run(pause.String(), func(t *testing.T) {
			b := setup(t, "good", func(c *rpc.Config) { c.Slots = 2 })
			wait.Until(t, "two children", func() bool { return b.pool.Up() == 2 })
			b.pool.Restart()
			timer := time.NewTimer(pause)
			<-timer.C
			b.queue.Close()
			b.stop()
			select {
			case err := <-b.ended:
				b.ended <- err
				if err != nil {
					t.Error(err)
				}
			case <-time.After(10 * time.Second):
				t.Error("the pool does not stop")
			}
			if left := b.pool.Slots(); len(left) != 0 || b.pool.Up() != 0 {
				t.Errorf("left: %+v", left)
			}
			for line := range strings.Lines(b.log.String()) {
				if _, rest, ok := strings.Cut(line, " pid="); ok {
					var pid int
					if _, err := fmt.Sscan(rest, &pid); err == nil && syscall.Kill(pid, 0) == nil {
						t.Errorf("process %d is left", pid)
					}
				}
			}
		})
	}
}
