//go:build faults

package faults

import (
	"syscall"
	"testing"
	"time"
)

// TestASignalToTheWholeTree: a service manager stops the sidecar and its workers at
// the same moment, three times in a row, in whatever order the signals come. No stop
// costs a record an attempt, and the next start does it.
func TestASignalToTheWholeTree(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mode string
		sig  syscall.Signal // to the workers: those of the protocol handle SIGTERM
	}{{"exec", syscall.SIGTERM}, {"rpc", syscall.SIGHUP}} {
		t.Run(c.mode, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := setup{exec: c.mode == "exec"}
			w.group(record{Ms: 1500}, record{Ms: 1500})
			for turn := range 3 {
				sc := w.start(s)
				eventually(t, 20*time.Second, "both tasks in processes", func() bool {
					events, err := w.hist.read()
					n := 0
					for _, e := range events {
						n += btoi(e.What == started)
					}
					return err == nil && n == 2*(turn+1)
				})
				children := sc.children()
				toChildren := func() {
					for _, pid := range children {
						if err := w.hist.write(event{What: kills, Pid: pid, Text: "the whole tree"}); err != nil {
							t.Error(err)
						}
						_ = syscall.Kill(-pid, c.sig)
					}
				}
				w.hurt("a signal to the whole tree")
				if turn > 0 { // the workers first
					toChildren()
					pause(time.Duration(turn-1) * 50 * time.Millisecond)
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
