//go:build faults

package faults

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestKinds kills sidecars and their workers where each sidecar has several kinds of worker
// and the sidecars differ in them: no record is lost. A record that no sidecar takes becomes
// a dead letter when its time is over, and not before.
func TestKinds(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if _, err := sidecarBinary(); err != nil { // it may have to be built
		t.Fatal(err)
	}
	// During a recovery the wrong sidecar can take a record again and again, for a second
	// each time.
	w.delay = 3 * time.Second
	fleet := [][]string{{"a*", "b*"}, {"b*", "c*"}, {"a*", "c?*"}}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for _, kinds := range fleet {
		wg.Go(func() { // restarts the sidecar, as Kubernetes restarts a pod
			for again(stop, 0) {
				sc := w.start(setup{env: eager, kinds: kinds})
				select {
				case <-sc.done:
				case <-stop:
				}
			}
		})
	}
	n := 0
	named := func(kind byte, ms int) record {
		n++
		return record{TaskID: fmt.Sprintf("%c%04d", kind, n), Ms: ms}
	}
	groups := func() {
		for range 4 {
			var rs []record
			for i := range 9 {
				rs = append(rs, named("abc"[i%3], 150+w.rnd.IntN(600)))
			}
			w.group(rs...)
		}
	}
	for round := range 8 {
		groups()
		wait.Pass(time.Duration(500+w.rnd.IntN(600)) * time.Millisecond)
		all := w.alive()
		if len(all) == 0 {
			continue
		}
		sc := all[w.rnd.IntN(len(all))]
		if workers := sc.children(); round%2 == 0 && len(workers) > 0 {
			pid := workers[w.rnd.IntN(len(workers))]
			if err := w.hist.Write(history.Event{What: history.Kills, Pid: pid, Text: "a worker of some kind"}); err != nil {
				t.Error(err)
			}
			_ = syscall.Kill(pid, syscall.SIGKILL)
			w.hurt("a worker is killed")
		} else {
			w.hurt(sc.id + " is killed")
			sc.kill()
			<-sc.done
		}
	}
	groups()
	w.settle(60 * time.Second)

	unrouted := named('n', 0)
	lost := w.group(unrouted)
	other := named('m', 10)
	w.group(other)
	began := time.Now()
	wait.Pass(time.Second)
	w.start(setup{kinds: []string{"m*"}}) // before the time of the record m is over
	w.settle(60 * time.Second)
	if d := time.Since(began); d < 19*time.Second {
		w.violation("%s was buried after %v", unrouted.TaskID, d)
	}
	f := w.final()
	if c := f.Completions[lost][unrouted.TaskID]; c.Success || c.Error == nil || !strings.Contains(*c.Error, "no kind of worker takes a task called") {
		w.violation("the group of %s was told %+v", unrouted.TaskID, c)
	}
	for _, l := range f.Letters {
		if l.Task != unrouted.TaskID || l.Reason != "unrouted" {
			w.violation("a dead letter of %s: %s", l.Task, l.Reason)
		}
	}
	if len(f.Letters) != 1 {
		w.violation("%d dead letters", len(f.Letters))
	}
	w.mu.Lock()
	delete(w.tasks, unrouted.TaskID) // checked above
	delete(w.groups, lost)
	w.mu.Unlock()
	close(stop)
	wg.Wait()
	w.verify("SIGKILL with several kinds of worker")
}
