//go:build faults

package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestSIGSTOPOfASidecar stops sidecars for longer than their lease. Other sidecars take
// over their tasks. A stopped sidecar that goes on finds that its lease is lost, lets go of
// its tasks and starts over: what its workers did meanwhile is not counted again.
func TestSIGSTOPOfASidecar(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		tree bool // its workers too
	}{{"alone", false}, {"with its workers", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			all := w.crew(4, setup{env: eager})
			for range 2 {
				rs := w.work(8, 100)
				for i := range rs {
					rs[i].Ms += 800
				}
				w.group(rs...)
				victims := all[:2]
				wait.Within(t, 10*time.Second, "tasks of the victims", func() bool {
					held, err := w.heldBy(victims[0].id)
					other, oerr := w.heldBy(victims[1].id)
					return err == nil && oerr == nil && len(held) > 0 && len(other) > 0
				})
				for _, v := range victims {
					w.freeze(v, c.tree)
				}
				wait.Pass(11 * time.Second)
				for _, v := range victims {
					w.thaw(v, c.tree)
				}
				w.settle(20 * time.Second)
				for _, v := range victims {
					wait.Within(t, 10*time.Second, v.id+" to find out", func() bool { return v.says("lease lost") })
				}
				w.group(w.work(12, 50)...) // all of them work again
				w.settle(20 * time.Second)
			}
			w.verify("SIGSTOP of the sidecar, " + c.name + ", beyond its lease")
		})
	}
}

func (w *world) freeze(s *sidecar, tree bool) {
	w.t.Helper()
	s.signal(syscall.SIGSTOP)
	if tree {
		for _, pid := range s.children() {
			_ = syscall.Kill(pid, syscall.SIGSTOP) // it may have ended
		}
	}
	at := time.Now()
	w.hurt("SIGSTOP of " + s.id)
	wait.Within(w.t, 5*time.Second, s.id+" to stand still", func() bool { return standsStill(s.pid()) })
	// A claim may still be on its way to Redis. No other sidecar touches the records that it
	// brings before the lease has run out.
	wait.Pass(500 * time.Millisecond)
	held, err := w.heldBy(s.id)
	if err != nil {
		w.t.Error(err)
	}
	w.mu.Lock()
	w.hits = append(w.hits, hit{at: at, who: s.id, pid: s.pid(), tasks: held})
	w.mu.Unlock()
}

// standsStill reports whether all threads of a process have stopped, which happens some
// time after SIGSTOP was sent.
func standsStill(pid int) bool {
	threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return false
	}
	for _, file := range threads {
		stat, err := os.ReadFile(file)
		if err == nil && !strings.Contains(string(stat), ") T ") {
			return false
		}
	}
	return true
}

func (w *world) thaw(s *sidecar, tree bool) {
	if tree {
		for _, pid := range s.children() {
			_ = syscall.Kill(pid, syscall.SIGCONT)
		}
	}
	s.signal(syscall.SIGCONT)
}

// TestSIGSTOPOfAWorker stops workers: a stopped worker delays its own task and no other. It
// goes on where it was, or is replaced at the task's deadline; an idle worker is replaced
// when it does not answer a ping.
func TestSIGSTOPOfAWorker(t *testing.T) {
	t.Parallel()
	t.Run("goes on", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		s := w.crew(1, setup{})[0]
		for range 3 {
			w.group(w.work(1, 1)...)
			id := w.one(record{Ms: 500})
			pid := w.runs(id)
			w.hurt("SIGSTOP of a worker")
			_ = syscall.Kill(pid, syscall.SIGSTOP)
			w.group(w.work(5, 20)...)
			wait.Pass(1500 * time.Millisecond)
			_ = syscall.Kill(pid, syscall.SIGCONT)
			w.settle(10 * time.Second)
		}
		if strings.Count(s.text(), `"worker ready"`) != 2 {
			w.violation("a worker was replaced though it was only slow")
		}
		w.verify("SIGSTOP of a worker, then SIGCONT")
	})
	t.Run("until its deadline", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.crew(1, setup{env: []string{"SIDECAR_TASK_TIMEOUT=1s"}})
		for range 3 {
			g := w.group(record{Ms: 500, Do: "hang"}, record{Ms: 20})
			pid := w.runs(w.memberOf(g, "hang"))
			w.hurt("SIGSTOP of a worker")
			_ = syscall.Kill(pid, syscall.SIGSTOP)
			w.settle(15 * time.Second)
		}
		f, s := w.verify("SIGSTOP of a worker beyond its task's deadline")
		for g := range w.groups {
			c := f.Completions[g][w.memberOf(g, "hang")]
			w.endedBy(s.Of(w.memberOf(g, "hang")), time.Second)
			if c.Error == nil || !strings.Contains(*c.Error, "timeout") {
				t.Errorf("%s: the stopped task's completion is %+v", g, c)
			}
		}
	})
	t.Run("idle", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		s := w.crew(1, setup{env: []string{"SIDECAR_WORKER_PING_INTERVAL=200ms", "SIDECAR_WORKER_PING_TIMEOUT=500ms"}})[0]
		s.ready(2)
		for _, pid := range s.children() {
			w.hurt("SIGSTOP of an idle worker")
			_ = syscall.Kill(pid, syscall.SIGSTOP)
		}
		s.ready(4)
		w.group(w.work(5, 20)...)
		w.settle(10 * time.Second)
		w.verify("SIGSTOP of an idle worker")
	})
}

// memberOf returns the id of a group's task with the given Do.
func (w *world) memberOf(group, do string) string {
	for id, p := range w.tasks {
		if p.Group == group && p.Do == do {
			return id
		}
	}
	return ""
}

// runs waits until a task has started and returns the process id of its worker.
func (w *world) runs(task string) (pid int) {
	w.t.Helper()
	wait.Within(w.t, 10*time.Second, "the start of "+task, func() bool {
		events, err := w.hist.Read()
		if err != nil {
			return false // a line is being written
		}
		for _, e := range events {
			if e.What == history.Started && e.Task == task {
				pid = e.Pid
			}
		}
		return pid != 0
	})
	return pid
}
