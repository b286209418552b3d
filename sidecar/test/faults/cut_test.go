//go:build faults

package faults

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultproxy"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// cutter breaks the connection at requests to Redis and counts how often it did.
type cutter struct {
	names map[string]string // script names by SHA-1

	mu    sync.Mutex
	seen  map[string]int
	cuts  map[string]int // by "command action"
	most  int            // cuts of each command
	every int            // of so many requests of a command, the first is cut
	act   faultproxy.Action
	late  time.Duration
}

func (c *cutter) name(cmd faultproxy.Command) string {
	if (cmd.Name == "EVALSHA" || cmd.Name == "EVAL") && len(cmd.Args) > 0 {
		if name := c.names[cmd.Args[0]]; name != "" {
			return name
		}
		return cmd.Name // EVAL with the text of a script that Redis does not know yet
	}
	if cmd.Name == "CLIENT" && len(cmd.Args) > 0 {
		return cmd.Name + " " + strings.ToUpper(cmd.Args[0])
	}
	return cmd.Name
}

func (c *cutter) rule(cmd faultproxy.Command) faultproxy.Verdict {
	name := c.name(cmd)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[name]++
	if c.seen[name]%c.every != 1 || c.cuts[name] >= c.most {
		return faultproxy.Verdict{}
	}
	c.cuts[name]++
	return faultproxy.Verdict{Action: c.act, Delay: c.late}
}

func (c *cutter) total() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, k := range c.cuts {
		n += k
	}
	return n
}

// commands returns everything that TestConnectionCut has sent to Redis: the name of every
// script, and the commands that are not scripts.
func commands(names map[string]string) []string {
	return append(slices.Collect(maps.Values(names)), "BLMOVE", "PING", "GET", "CLIENT ID", "CLIENT UNBLOCK", "HELLO", "EVAL")
}

// TestConnectionCut cuts the connection at every command that is sent: before the request,
// between request and reply, with a reset, and so that the request arrives long after its
// sender has gone on. No record is lost and no task runs twice: the sidecar asks again for
// what a lost reply said. An operator repeats a command that failed, with the same result.
func TestConnectionCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		act  faultproxy.Action
		late time.Duration
		most int // cuts of each command
		// delay covers three effects: a sidecar whose count of another's absence is
		// disturbed begins to count again; a sidecar waits for a reply that never comes;
		// and a record that woke the wrong sidecar is found a second later.
		delay time.Duration
	}{
		{"cut before the request", faultproxy.CutBefore, 0, 4, 5 * time.Second},
		{"cut between request and reply", faultproxy.CutAfter, 0, 4, 5 * time.Second},
		{"cut by a reset between request and reply", faultproxy.ResetAfter, 0, 4, 5 * time.Second},
		{"late request, delivered 700 ms after its connection", faultproxy.Late, 700 * time.Millisecond, 4, 5 * time.Second},
		{"cut off from the reply, the connection open", faultproxy.Swallow, 0, 2, 7 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			names := scripts(t)
			k := &cutter{names: names, seen: map[string]int{}, cuts: map[string]int{}, most: c.most, every: 3, act: c.act, late: c.late}
			p := w.newProxy(w.server.Addr)
			p.SetRule(k.rule)
			w.delay = c.delay
			w.life(p)
			w.stopAll()
			// An operator's command reports a failed call and does not retry it, so only
			// its scripts are cut.
			p.SetRule(func(cmd faultproxy.Command) faultproxy.Verdict {
				if slices.Contains(operations, k.name(cmd)) {
					return k.rule(cmd)
				}
				return faultproxy.Verdict{}
			})
			w.operate(p, c.late)
			p.SetRule(nil)
			w.faults = k.total()
			w.verify(c.name)
			k.mu.Lock()
			defer k.mu.Unlock()
			t.Logf("%v", k.cuts)
			for _, name := range commands(names) {
				if k.cuts[name] == 0 {
					t.Errorf("%s was never cut (sent %d times)", name, k.seen[name])
				}
			}
		})
	}
}

// occupy gives each slot a task that lasts d.
func (w *world) occupy(d time.Duration) {
	rs := w.work(12, 10)
	for i := range rs {
		rs[i].Ms = int(d.Milliseconds())
	}
	w.group(rs...)
	w.settle(40 * time.Second)
}

// life makes sidecars send every command that they know: claims with and without waiting
// and with and without kinds, reports of all kinds, returns of lost tasks, delays, tasks
// that run alone, requests of workers, the reaping of a killed sidecar, and stops.
func (w *world) life(p *faultproxy.Proxy, env ...string) {
	env = append(env, "SIDECAR_RETRY_BASE=200ms", "SIDECAR_REDIS_READ_TIMEOUT=2s", "SIDECAR_REDIS_PING_INTERVAL=300ms")
	s := setup{proxy: p, env: env}
	w.crew(2, s)
	some := s
	some.kinds = []string{"t*1", "t*2", "t*?4"}
	w.start(some).ready(1) // the other sidecars find what it takes of other kinds
	victim := w.start(s)
	victim.ready(1)
	for range 6 {
		rs := w.work(5, 60)
		rs[1].Do, rs[2].Do, rs[3].Kill = "fail", "retry", "self-start"
		w.group(rs...)
		w.twice(record{})
		w.one(record{Size: 10_000})
		w.one(record{Pad: strings.Repeat("x", 1<<20)}) // claimed in parts
		w.group(record{Do: "channel", Next: w.next()}, record{Do: "channel", Next: w.next()})
		w.oldLetter()
		wait.Pass(300 * time.Millisecond)
	}
	w.settle(40 * time.Second) // before the kill below: a task with a request must not run twice
	for range 6 {
		w.setAside(record{Ms: 5})
		w.settle(40 * time.Second)
	}
	w.occupy(6 * time.Second) // a sidecar with tasks in flight compares them with Redis every 5 s
	rs := w.work(12, 10)
	for i := range rs {
		rs[i].Ms = 1500
	}
	w.group(rs...)
	wait.Within(w.t, 10*time.Second, "tasks of the victim", func() bool {
		held, err := w.heldBy(victim.id)
		return err == nil && len(held) > 0
	})
	victim.kill()
	<-victim.done
	w.settle(40 * time.Second)
	w.noOldLetter()
	for range 3 { // short lives: register, retire, reap, unblock
		short := w.start(s)
		short.ready(2)
		w.group(w.work(4, 30)...)
		w.settle(20 * time.Second)
		short.stop()
	}
}
