//go:build lifecycle

package lifecycle

import (
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultproxy"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

func number(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// proxied is a bench whose sidecar speaks to Redis through a proxy.
func proxied(t *testing.T) (*bench, *faultproxy.Proxy) {
	t.Helper()
	b := newBench(t)
	proxy, err := faultproxy.Start(b.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	b.addr = proxy.Addr()
	return b, proxy
}

// TestGracefulWorkerShutdown is the third point of the analysis: a stop that every
// loop sees, that interrupts what it waits for, and during which an error ends a
// loop instead of being reported. (Waiting for the end with a timeout is
// App.WaitContext and, in Python, Sidecar.wait: they have tests beside them.)
func TestGracefulWorkerShutdown(t *testing.T) {
	t.Parallel()
	t.Run("a wait is interrupted", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		s := b.sidecar()
		s.ready()
		wait.Pass(300 * time.Millisecond) // it blocks in Redis now, for a second at a time
		t.Logf("ended %v after the signal", s.terminate(time.Second))
		s.silent()
	})
	t.Run("a wait that cannot be interrupted is outlasted", func(t *testing.T) {
		t.Parallel()
		b, proxy := proxied(t)
		s := b.sidecar()
		s.ready()
		proxy.SetRule(func(c faultproxy.Command) faultproxy.Verdict {
			if c.Name == "CLIENT" && len(c.Args) > 0 && c.Args[0] == "UNBLOCK" {
				return faultproxy.Verdict{Action: faultproxy.CutBefore}
			}
			return faultproxy.Verdict{}
		})
		t.Logf("ended %v after the signal", s.terminate(2*time.Second))
		s.silent()
	})
	t.Run("unready at once", func(t *testing.T) {
		t.Parallel()
		b := newBench(t)
		gate := b.gate("gate")
		b.push(job{TaskID: "running", Do: "gate", Path: gate})
		s := b.sidecar()
		b.begun(gate)
		s.ready()
		s.signal(syscall.SIGTERM)
		wait.Until(t, "its word", func() bool { return s.says(`"stopping: no new tasks, the running ones finish"`) })
		s.signal(syscall.SIGQUIT)
		wait.Until(t, "the dump", func() bool { return s.says("sidecar: state=stopping ready=false") })
		late := names("late", 5)
		b.push(jobs(late...)...)
		wait.Pass(300 * time.Millisecond)
		b.open(gate)
		s.exits(0, 3*time.Second)
		if got := b.queue(); !slices.Equal(got, late) || !b.done("running") {
			t.Errorf("queue %v, result %q", got, b.result("running"))
		}
	})
	t.Run("an error during a stop is not reported", func(t *testing.T) {
		t.Parallel()
		b, proxy := proxied(t)
		gate := b.gate("gate")
		b.push(job{TaskID: "running", Do: "gate", Path: gate})
		const budget = 3 * time.Second
		s := b.sidecar("SIDECAR_SHUTDOWN_TIMEOUT=" + budget.String())
		b.begun(gate)
		s.signal(syscall.SIGTERM)
		wait.Until(t, "its word", func() bool { return s.says(`"stopping: no new tasks, the running ones finish"`) })
		proxy.Refuse() // every connection is reset, in the middle of the stop
		b.open(gate)
		t.Logf("ended %v after the signal with a budget of %v", s.endsWithin(budget), budget)
		s.silent()
	})
}
