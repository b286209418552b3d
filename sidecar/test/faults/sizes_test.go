//go:build faults

package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultproxy"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestResultsOverASlowLink has 7 results of a megabyte ready at once, and a task that writes
// and reads as much in its channel. The link takes less than a megabyte a second each way, so
// a batch of results takes longer than a timeout of Redis. All results are reported, no task
// runs twice and no sidecar is given up. Redis may count as lost only if the machine itself
// stood still for such a timeout, or had time for less than half of its work.
func TestResultsOverASlowLink(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.newProxy(w.server.Addr)
	const timeout = 3 * time.Second
	s := w.start(setup{proxy: p, env: append([]string{"SIDECAR_REDIS_WRITE_TIMEOUT=" + timeout.String(), "SIDECAR_REDIS_READ_TIMEOUT=" + timeout.String(), "MAX_CONCURRENT_TASKS=4"}, eager...)})
	s.ready(1)
	p.SetShape(faultproxy.Shape{Slice: 8 << 10, Gap: 9 * time.Millisecond})
	w.hurt("a slow link")
	began := time.Now()
	rs := make([]record, 8)
	for i := range rs {
		rs[i].Size = 1 << 20
	}
	rs[3].Do = "value"
	w.group(rs...)
	w.settle(60 * time.Second)
	p.SetShape(faultproxy.Shape{})
	w.noRunGivenUp()
	// The lease's requests and the end of a wait are short, but have only a second or two: on
	// a busy machine they may be late. Every request with payload must get through.
	lost := 0
	for line := range strings.Lines(s.text()) {
		if strings.Contains(line, "redis is lost") && !strings.Contains(line, `"error":"tick:`) && !strings.Contains(line, `"error":"wait:`) {
			lost++
			t.Log(line)
		}
	}
	longest, _ := w.stalls.longest()
	if slow := time.Since(began) > 2*machine.Since(began); lost > 0 && longest < timeout && !slow {
		w.violation("a slow link counts as lost, %d times", lost)
	}
	w.verify("results over a slow link")
}

// TestAResultThatRedisRejects runs 20 tasks with a Redis that takes no argument over a
// megabyte: one task has a result of two megabytes, and one puts a value of three into its
// channel. Both fail with errors that name the size and the limit; the others succeed.
func TestAResultThatRedisRejects(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "--proto-max-bulk-len", "1mb")
	s := w.start(setup{env: eager})
	s.ready(1)
	w.hurt("a result that Redis never takes")
	rs := w.work(20, 20)
	rs[7].Do, rs[7].Size = "too large", 2_000_000
	rs[11].Do, rs[11].Size = "value too large", 3_000_000
	group := w.group(rs...)
	w.settle(20 * time.Second)
	w.group(w.work(20, 20)...)
	w.settle(20 * time.Second)
	w.noRunGivenUp()
	if !s.says("result of 2 MB is larger than Redis accepts (1 MB)") {
		w.violation("the log does not say why the task failed")
	}
	left, _ := w.verify("a result that Redis rejects")
	failures := 0
	for _, c := range left.Completions[group] {
		if !c.Success {
			failures++
			if !strings.Contains(*c.Error, "larger than Redis accepts (1 MB)") {
				t.Errorf("%s failed with %q", c.TaskID, *c.Error)
			}
		}
	}
	if failures != 2 {
		t.Errorf("%d tasks have failed, want 2", failures)
	}
}

// TestResultsThatWaitAreBounded runs tasks with results of a megabyte while Redis serves
// claims but takes no report. The sidecar claims nothing once the results that wait exceed
// SIDECAR_MAX_UNREPORTED_BYTES, and reports all when Redis takes reports again.
func TestResultsThatWaitAreBounded(t *testing.T) {
	t.Parallel()
	const (
		size  = 1 << 20
		limit = 4 << 20
		tasks = 24
		// Beyond the limit come the result that exceeds it, and the records that were
		// claimed before, for two slots and ahead of them.
		most = limit/size + 8
	)
	w := newWorld(t)
	p := w.newProxy(w.server.Addr)
	addr := freeAddr(t)
	s := w.start(setup{proxy: p, env: []string{
		fmt.Sprint("SIDECAR_MAX_UNREPORTED_BYTES=", limit), "SIDECAR_HTTP_ADDR=" + addr,
		"SIDECAR_REDIS_READ_TIMEOUT=60s", // a report that waits is no outage
	}})
	w.group(w.work(20, 5)...)
	w.settle(20 * time.Second)
	before := anonymous(t, s.pid())
	names := scripts(t)
	taken := make(chan struct{})
	p.SetRule(func(cmd faultproxy.Command) faultproxy.Verdict {
		if len(cmd.Args) > 0 && names[cmd.Args[0]] == "report" {
			<-taken
		}
		return faultproxy.Verdict{}
	})
	w.hurt("Redis takes no report")
	rs := make([]record, tasks)
	for i := range rs {
		rs[i].Size = size
	}
	w.group(rs...)
	waiting := func() float64 { return metric(t, addr, "graflow_sidecar_unreported_bytes") }
	wait.Within(t, 20*time.Second, "results above the limit", func() bool { return waiting() > limit })
	for range 20 { // it must not claim meanwhile
		wait.Pass(50 * time.Millisecond)
		if held, err := w.heldBy(s.id); err != nil || len(held) > most {
			w.violation("%d records are claimed while results wait (%v)", len(held), err)
			break
		}
	}
	n, more := waiting(), anonymous(t, s.pid())-before
	t.Logf("%.0f bytes wait, %d KiB more", n, more>>10)
	if n > most*size {
		w.violation("%.0f bytes of results wait, above a limit of %d", n, limit)
	}
	if !builtWithRace() && more > 8*limit {
		w.violation("%d KiB more memory, with a limit of %d KiB", more>>10, limit>>10)
	}
	close(taken)
	w.settle(30 * time.Second)
	w.noRunGivenUp()
	w.verify("results that wait for a Redis that takes no report")
}
