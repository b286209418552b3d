//go:build faults

package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestOutcomeOfATaskThatWasTakenOver cuts a sidecar off from Redis for longer than its lease
// while a task runs. Another sidecar runs the task again, and both have an outcome. One
// outcome counts; the other is logged as stale and not as a success.
func TestOutcomeOfATaskThatWasTakenOver(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.newProxy(w.server.Addr)
	s := w.crew(1, setup{proxy: p})[0]
	id := w.one(record{Ms: 3000})
	w.runs(id)
	w.hurt("a sidecar loses Redis for longer than its lease")
	w.again++
	p.Refuse()
	w.crew(1, setup{})
	w.settle(40 * time.Second)
	if err := p.Accept(); err != nil {
		t.Fatal(err)
	}
	wait.Within(t, 20*time.Second, "the outcome to be dropped", func() bool { return s.says("outcome dropped") })
	w.goesOn(time.Now())
	if n := w.logged(id, `"outcome":"stale"`); n != 1 {
		w.violation("%s was told as stale %d times", id, n)
	}
	if n := w.logged(id, "task succeeded"); n != 1 {
		w.violation("%s was told as a success %d times", id, n)
	}
	w.verify("network away for longer than a lease, and two outcomes")
}

// TestResultsOfOneKeyKeepTheirOrder lets tasks with the same id end one after the other while
// no reply of Redis comes, so that one batch reports their results. The later result stays.
func TestResultsOfOneKeyKeepTheirOrder(t *testing.T) {
	t.Parallel()
	const pairs, short, long = 4, 3, 7 // bytes of the results
	w := newWorld(t)
	p := w.newProxy(w.server.Addr)
	s := w.crew(1, setup{proxy: p, env: []string{fmt.Sprint("MAX_CONCURRENT_TASKS=", 2*pairs+1)}})[0]
	s.ready(2*pairs + 1)
	w.again++ // both results of a task are written
	for turn := range 2 {
		ids := make([]string, pairs)
		for i := range ids {
			// The order of their claims makes no difference.
			first, second := record{Ms: 1500, Size: short}, record{Ms: 3500, Size: long}
			first = w.fill(first)
			ids[i], second.TaskID = first.TaskID, first.TaskID
			second.SessionID, second.GraphHash, second.TraceID, second.CreatedAt = first.SessionID, first.GraphHash, first.TraceID, first.CreatedAt
			w.push(first)
			w.push(second)
		}
		w.one(record{Ms: 700}) // its report is in flight when the others end
		all := func(what string) func() bool {
			return func() bool {
				events, err := w.hist.Read()
				n := 0
				for _, e := range events {
					n += btoi(e.What == what)
				}
				return err == nil && n == (turn+1)*(2*pairs+1)
			}
		}
		wait.Within(t, 10*time.Second, "all tasks to run", all(history.Started))
		w.hurt("no reply while two results of a task come")
		p.Stall()
		wait.Within(t, 20*time.Second, "the ends of the tasks", all(history.Ended))
		wait.Pass(300 * time.Millisecond) // until the sidecar has the workers' answers
		p.Resume()
		w.settle(20 * time.Second)
		left := w.final()
		for _, id := range ids {
			if got := strings.Count(left.Results[id], "x"); got != long {
				w.violation("%s: the result of %d bytes stayed, and not the later one of %d", id, got, long)
			}
		}
	}
	w.verify("network without replies, and two results of a task")
}
