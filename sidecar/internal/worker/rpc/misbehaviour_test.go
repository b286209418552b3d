package rpc_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// started returns every process id in the log.
func (b *bundle) started() (pids []int) {
	seen := make(map[int]bool)
	for line := range strings.Lines(b.log.String()) {
		_, rest, ok := strings.Cut(line, " pid=")
		var pid int
		if _, err := fmt.Sscan(rest, &pid); ok && err == nil && !seen[pid] {
			seen[pid] = true
			pids = append(pids, pid)
		}
	}
	return pids
}

// wantNoProcessLeft stops the pool and checks that its processes are gone.
func (b *bundle) wantNoProcessLeft(t *testing.T) {
	t.Helper()
	b.halt()
	pids := b.started()
	if len(pids) == 0 {
		t.Error("the log names no process")
	}
	for _, pid := range pids {
		if err := syscall.Kill(-pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("the process group %d is left: %v", pid, err)
		}
	}
	if c := b.queue.Counts(); c != (dispatch.Counts{}) {
		t.Errorf("slots are in use: %+v", c)
	}
}

// TestMisbehaviourCostsWhatItMust checks for every misbehaviour of a worker the outcome
// of its task (Lost uses an attempt), that the next task has the same outcome, so that
// nothing stays broken, the number of processes, and that none of them is left.
func TestMisbehaviourCostsWhatItMust(t *testing.T) {
	quick := func(c *rpc.Config) {
		c.WriteTimeout, c.KillGrace = 200*time.Millisecond, 200*time.Millisecond
	}
	deadline := func(c *rpc.Config) { c.TaskTimeout, c.KillGrace = 100*time.Millisecond, 20*time.Second }
	short := func(c *rpc.Config) { c.TaskTimeout, c.KillGrace = 100*time.Millisecond, 100*time.Millisecond }
	large := strings.Repeat("x", 1<<20) // more than a pipe holds
	for _, c := range []struct {
		role      string
		cfg       func(*rpc.Config)
		path      string // part of the record
		kind      task.Conclusion
		message   string
		processes int // for two tasks
	}{
		{"prints a banner first", nil, "", task.Succeeded, "", 1},
		{"begins with a byte order mark", nil, "", task.Succeeded, "", 1},
		{"answers twice", nil, "", task.Succeeded, "", 1},
		{"answers an unknown id", nil, "", task.Succeeded, "", 1},
		{"floods both streams", nil, "", task.Succeeded, "", 1},
		{"floods stdout for ever", quick, "", task.Succeeded, "", 1},
		{"floods stderr for ever", quick, "", task.Succeeded, "", 1},
		{"logs", nil, "", task.Succeeded, "", 1},
		{"waits and never resumes", nil, "", task.Succeeded, "", 1},
		{"ignores SIGTERM", quick, "", task.Succeeded, "", 1},
		{"answers after a cancel", deadline, "", task.Succeeded, "", 1},
		{"answers a cancel twice", deadline, "", task.Failed, "timeout", 1},
		{"says draining and stays", quick, "", task.Succeeded, "", 2},
		{"answers with garbage", nil, "", task.Failed, "not a valid message", 1},
		{"answers a line that is too long", nil, "", task.Failed, "SIDECAR_MAX_MESSAGE_BYTES", 1},
		{"answers with an error", nil, "", task.Lost, "I am confused", 1},
		{"stops answering", short, "", task.Failed, "timeout", 2},
		{"ignores everything", short, "", task.Failed, "timeout", 2},
		{"floods one line for ever", short, "", task.Failed, "timeout", 2},
		{"answers garbage without an id", quick, "", task.Lost, "cannot be read", 2},
		{"dies in mid-line", nil, "", task.Lost, "exited with status 1", 2},
		{"closes its stdout", quick, "", task.Lost, "the worker closed its stdout", 2},
		{"closes its stdin", quick, "", task.Lost, "closed its stdin", 2},
		{"stops reading", quick, large, task.Lost, "read nothing from its stdin", 2},
	} {
		t.Run(c.role, func(t *testing.T) {
			b := setup(t, c.role, c.cfg)
			for range 2 {
				x := b.push("", c.path)
				o := b.next()
				for o.Conclusion == task.Returned && c.role == "says draining and stays" {
					// The task was acquired while the child was ending.
					wait.Until(t, "the next child", func() bool { return b.queue.Counts().Capacity > 0 })
					b.queue.Offer([]task.Task{o.Task})
					o = b.next()
				}
				if o.Conclusion != c.kind || o.Shared || o.Task.Delivery != x.Delivery || !strings.Contains(o.Message, c.message) {
					t.Fatalf("%v shared=%t: %s", o.Conclusion, o.Shared, o.Message)
				}
			}
			b.wantNoProcessLeft(t)
			// One more may have been started already.
			if n := len(b.started()); n < c.processes || n > c.processes+1 || (c.processes == 1 && n != 1) {
				t.Errorf("%d processes, want %d", n, c.processes)
			}
			select {
			case o := <-b.outcomes:
				t.Errorf("another outcome: %v: %s", o.Conclusion, o.Message)
			default:
			}
		})
	}
}

func TestAWorkerThatDrainsIsReplacedAndLosesNothing(t *testing.T) {
	b := setup(t, "drains after its first task", func(c *rpc.Config) {
		c.Restart = backoff.Policy{Min: time.Hour, Max: time.Hour} // no pause applies to a worker that drains
	})
	for range 3 {
		b.push("last", "")
		o := b.next()
		for o.Conclusion == task.Returned { // acquired while the child was ending
			b.push("last", "")
			o = b.next()
		}
		if o.Conclusion != task.Succeeded {
			t.Fatalf("%v: %s", o.Conclusion, o.Message)
		}
	}
	wait.Until(t, "replacements", func() bool { return strings.Count(b.log.String(), "worker ready") >= 3 })
}
