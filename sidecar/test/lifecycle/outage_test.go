//go:build lifecycle

package lifecycle

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultproxy"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// outage is a way for Redis to go, and to come back.
type outage struct {
	name string
	args []string // of the server
	// via is set where the sidecar speaks to Redis through a proxy.
	via       bool
	container bool
	gone      func(o *outaged)
	back      func(o *outaged)
	// plain is a restart as every deployment makes one.
	plain bool
}

// outaged is a bench whose Redis goes.
type outaged struct {
	*bench
	server *redistest.Instance
	proxy  *faultproxy.Proxy
	// container holds Redis, where server does not.
	container *container
}

var outages = []outage{
	{
		name: "SIGTERM", args: []string{"--appendonly", "yes"}, plain: true,
		gone: func(o *outaged) { o.server.Stop() }, back: func(o *outaged) { o.server.Restart() },
	},
	{
		// Nothing persists: it comes back without a single key.
		name: "SIGKILL", plain: true,
		gone: func(o *outaged) { o.server.Kill() }, back: func(o *outaged) { o.server.Restart() },
	},
	{
		name: "refused", via: true,
		gone: func(o *outaged) { o.proxy.Refuse() },
		back: func(o *outaged) {
			if err := o.proxy.Accept(); err != nil {
				o.t.Error(err)
			}
		},
	},
	{
		// A cable that is pulled: nothing comes, not even a refusal.
		name: "cut", via: true,
		gone: func(o *outaged) { o.proxy.Stall() }, back: func(o *outaged) { o.proxy.Resume() },
	},
	{
		name: "frozen",
		gone: func(o *outaged) { o.server.Freeze() }, back: func(o *outaged) { o.server.Thaw() },
	},
}

func (o outage) bench(t *testing.T) *outaged {
	t.Helper()
	if o.container {
		b, c := containerBench(t)
		return &outaged{bench: b, container: c}
	}
	b, server := ownBench(t, o.args...)
	out := &outaged{bench: b, server: server}
	if o.via {
		proxy, err := faultproxy.Start(server.Addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(proxy.Close)
		b.addr, out.proxy = proxy.Addr(), proxy
	}
	return out
}

// TestRedisStoppedFirst is the failure that this project comes from: Redis goes
// away before its workers do. The sidecar says so in one line, waits, and on its
// SIGTERM ends within its budget, with status 0 and without a word of complaint.
func TestRedisStoppedFirst(t *testing.T) {
	t.Parallel()
	for _, o := range outages {
		t.Run(o.name+", idle", func(t *testing.T) {
			t.Parallel()
			b := o.bench(t)
			s := b.sidecar()
			s.ready()
			o.gone(b)
			wait.Pass(1500 * time.Millisecond)
			t.Logf("%s, idle: ended %v after the signal", o.name, s.terminate(4*time.Second))
			s.silent()
			s.saidOnce()
		})
		t.Run(o.name+", busy", func(t *testing.T) {
			t.Parallel()
			b := o.bench(t)
			first, second := b.gate("first"), b.gate("second")
			b.push(job{TaskID: "first", Do: "gate", Path: first}, job{TaskID: "second", Do: "gate", Path: second})
			const budget = 4 * time.Second
			s := b.sidecar("SIDECAR_SHUTDOWN_TIMEOUT=" + budget.String())
			b.begun(first)
			b.begun(second)
			o.gone(b)
			b.open(first) // its result cannot be reported
			wait.Pass(1500 * time.Millisecond)
			s.signal(syscall.SIGTERM)
			b.open(second)
			t.Logf("%s, busy: ended %v after the signal with a budget of %v", o.name, s.endsWithin(budget), budget)
			s.silent()
			s.saidOnce()
			for _, id := range []string{"first", "second"} {
				if !strings.Contains(s.log.String()[s.logged:], `"not reported before the end: it will be delivered again","task_id":"`+id) {
					t.Errorf("the unreported result of %s is not named", id)
				}
			}
		})
	}
}

// saidOnce wants one line about the loss of Redis at most, before the signal.
func (s *sidecar) saidOnce() {
	s.t.Helper()
	var said []string
	for _, l := range lines(s.t, s.log.String()[:s.logged]) {
		if l.Level != "INFO" {
			said = append(said, l.text)
		}
	}
	if len(said) > 1 {
		s.t.Errorf("%d lines about one outage:\n%s", len(said), strings.Join(said, "\n"))
	}
}

// TestALongOutageIsALineInTenSeconds: for 22 s, idle and busy alike.
func TestALongOutageIsALineInTenSeconds(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it takes 22 s")
	}
	for _, o := range outages[1:4] {
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			b := o.bench(t)
			gate := b.gate("gate")
			b.push(job{TaskID: "running", Do: "gate", Path: gate})
			s := b.sidecar("SIDECAR_SHUTDOWN_TIMEOUT=3s")
			b.begun(gate)
			s.ready()
			wait.Until(t, "both workers", func() bool { return strings.Count(s.log.String(), `"worker ready"`) == 2 })
			before := len(s.log.String())
			o.gone(b)
			b.open(gate)
			wait.Pass(22 * time.Second)
			s.signal(syscall.SIGTERM)
			var last time.Time
			said := lines(t, s.log.String()[before:s.logged])
			for _, l := range said {
				if !last.IsZero() && l.Time.Sub(last) < 9900*time.Millisecond {
					t.Errorf("%v after another line: %s", l.Time.Sub(last), l.text)
				}
				last = l.Time
			}
			if len(said) < 2 || len(said) > 3 {
				t.Errorf("%d lines in 22 s", len(said))
			}
			s.endsWithin(3 * time.Second)
			s.silent()
		})
	}
}

// TestWorkGoesOnWhenRedisReturns: within 1 s of a plain restart, within 5 s of
// anything else, and what could not be reported meanwhile is.
func TestWorkGoesOnWhenRedisReturns(t *testing.T) {
	t.Parallel()
	for _, o := range outages {
		for _, away := range []time.Duration{300 * time.Millisecond, 8 * time.Second} {
			t.Run(fmt.Sprint(o.name, " for ", away), func(t *testing.T) {
				t.Parallel()
				b := o.bench(t)
				gate := b.gate("gate")
				b.push(job{TaskID: "running", Do: "gate", Path: gate})
				s := b.sidecar()
				b.begun(gate)
				s.ready()
				o.gone(b)
				b.open(gate)
				wait.Pass(away)
				o.back(b)
				returned := time.Now()
				b.push(job{TaskID: "new"})
				wait.Until(t, "a new task", func() bool { return b.done("new") })
				took := machine.Since(returned)
				within := 5 * time.Second
				if o.plain && away < time.Second {
					within = time.Second
				}
				t.Logf("%s for %v: a new task ran %v after Redis was back", o.name, away, took)
				if took > within {
					t.Errorf("want within %v", within)
				}
				if len(o.args) > 0 || o.via || o.name == "frozen" { // it kept what was in flight
					wait.Until(t, "the result from before", func() bool { return b.done("running") })
					t.Logf("the old result was there %v after Redis was back", time.Since(returned))
				}
				s.terminate(3 * time.Second)
				s.silent()
			})
		}
	}
}

// TestUnreportedResultsAreSpooled: with SIDECAR_SPOOL_DIR the next start reports
// what this one could not, and the task does not run again.
func TestUnreportedResultsAreSpooled(t *testing.T) {
	t.Parallel()
	b, proxy := proxied(t)
	spool, gate := t.TempDir(), b.gate("gate")
	b.push(job{TaskID: "running", Do: "gate", Path: gate})
	s := b.sidecar("SIDECAR_SHUTDOWN_TIMEOUT=2s", "SIDECAR_SPOOL_DIR="+spool)
	b.begun(gate)
	proxy.Refuse()
	s.signal(syscall.SIGTERM)
	b.open(gate)
	s.endsWithin(2 * time.Second)
	s.silent()
	if !s.says("outcomes are spooled") {
		t.Error("it does not say that it spooled anything")
	}
	if err := errors.Join(proxy.Accept(), os.Remove(gate+".started")); err != nil {
		t.Fatal(err)
	}
	next := b.sidecar("SIDECAR_SPOOL_DIR=" + spool)
	wait.Until(t, "the result", func() bool { return b.done("running") })
	wait.Until(t, "the end of the spool, after that of the run that wrote it", func() bool {
		files, err := os.ReadDir(spool)
		return err == nil && len(files) == 0
	})
	next.terminate(2 * time.Second)
	if exists(gate + ".started") {
		t.Error("the task ran again")
	}
	if left := b.leftovers(); len(left) > 0 || len(b.queue()) > 0 {
		t.Errorf("keys left over: %v, queue %v", left, b.queue())
	}
}
