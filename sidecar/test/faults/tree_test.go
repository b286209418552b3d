//go:build faults

package faults

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestASignalToTheWholeTree stops the sidecar and its workers at the same moment, as a service
// manager does, three times in a row and with the signals in different orders. No stop costs
// a record an attempt, and the next start runs the record again.
func TestASignalToTheWholeTree(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode string
		sig  syscall.Signal // ends the workers; workers of mode rpc handle SIGTERM
	}{{"exec", syscall.SIGTERM}, {"rpc", syscall.SIGHUP}} {
		t.Run(c.mode, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := setup{exec: c.mode == "exec"}
			w.group(record{Ms: 1500}, record{Ms: 1500})
			for turn := range 3 {
				sc := w.start(s)
				wait.Within(t, 20*time.Second, "both tasks in processes", func() bool {
					events, err := w.hist.Read()
					n := 0
					for _, e := range events {
						n += btoi(e.What == history.Started)
					}
					return err == nil && n == 2*(turn+1)
				})
				children := sc.children()
				toChildren := func() {
					for _, pid := range children {
						if err := w.hist.Write(history.Event{What: history.Kills, Pid: pid, Text: "the whole tree"}); err != nil {
							t.Error(err)
						}
						_ = syscall.Kill(-pid, c.sig)
					}
				}
				w.hurt("a signal to the whole tree")
				if turn > 0 { // the workers first
					toChildren()
					wait.Pass(time.Duration(turn-1) * 50 * time.Millisecond)
					sc.stop()
				} else {
					sc.signal(syscall.SIGTERM)
					toChildren()
					sc.stop()
				}
				ctx, cancel := bounded()
				used, err := w.c.HLen(ctx, w.key("sidecar", "attempts")).Result()
				cancel()
				if err != nil || used != 0 {
					w.violation("stop %d has cost %d records an attempt (%v)", turn, used, err)
				}
			}
			w.start(s)
			w.settle(20 * time.Second)
			w.stopAll()
			w.verify("SIGTERM to the sidecar and its workers")
		})
	}
}

// TestAHangupOfTheWholeTree sends SIGHUP to the sidecar and its workers at the same moment,
// three times in a row. SIGHUP is a reload: the sidecar goes on, and it costs no record an
// attempt.
func TestAHangupOfTheWholeTree(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"exec", "rpc"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.group(record{Ms: 1500}, record{Ms: 1500})
			sc := w.start(setup{exec: mode == "exec"})
			for turn := range 3 {
				wait.Within(t, 20*time.Second, "both tasks in processes", func() bool {
					events, err := w.hist.Read()
					n := 0
					for _, e := range events {
						n += btoi(e.What == history.Started)
					}
					return err == nil && n >= 2*(turn+1)
				})
				children := sc.children()
				w.hurt("SIGHUP to the whole tree")
				if turn == 0 {
					sc.signal(syscall.SIGHUP)
				}
				for _, pid := range children {
					if err := w.hist.Write(history.Event{What: history.Kills, Pid: pid, Text: "the whole tree"}); err != nil {
						t.Error(err)
					}
					_ = syscall.Kill(-pid, syscall.SIGHUP)
				}
				if turn > 0 { // the workers first
					wait.Pass(time.Duration(turn-1) * 50 * time.Millisecond)
					sc.signal(syscall.SIGHUP)
				}
			}
			w.settle(20 * time.Second)
			ctx, cancel := bounded()
			used, err := w.c.HLen(ctx, w.key("sidecar", "attempts")).Result()
			cancel()
			if err != nil || used != 0 {
				w.violation("three reloads have cost %d records an attempt (%v)", used, err)
			}
			w.stopAll()
			w.verify("SIGHUP to the sidecar and its workers")
		})
	}
}

// TestWorkersThatExitAfterEachAnswer runs workers that exit after each answer. A record that
// was sent to such a worker, but that it never read, loses no attempt, and the workers are
// started again at once.
func TestWorkersThatExitAfterEachAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	sc := w.crew(1, setup{quits: true})[0]
	for range 4 {
		w.group(w.work(8, 1)...)
	}
	w.settle(40 * time.Second)
	w.hurt("workers that exit after each answer")
	if n := strings.Count(sc.text(), "lost with its worker"); n > 3 {
		w.violation("%d attempts are used up", n)
	}
	if !sc.says("SIDECAR_MAX_TASKS_PER_CHILD") {
		w.violation("the log does not say what such a worker is to do")
	}
	if n, err := w.c.HLen(t.Context(), w.key("sidecar", "attempts")).Result(); err != nil || n != 0 {
		w.violation("%d counts of attempts are left, %v", n, err)
	}
	w.verify("workers that exit after each answer")
}
