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

// cutter breaks the connection around requests and counts what it broke.
type cutter struct {
	names map[string]string // of scripts

	mu    sync.Mutex
	seen  map[string]int
	cuts  map[string]int // by "command action"
	most  int            // of each
	every int            // the first one and then every so many
	act   faultproxy.Action
	late  time.Duration
}

func (c *cutter) name(cmd faultproxy.Command) string {
	if (cmd.Name == "EVALSHA" || cmd.Name == "EVAL") && len(cmd.Args) > 0 {
		if name := c.names[cmd.Args[0]]; name != "" {
			return name
		}
		return cmd.Name // the script itself, when Redis does not know it yet
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

// commands are all that is said to Redis in what TestConnectionCut does: every
// script, and what is no script.
func commands(names map[string]string) []string {
	return append(slices.Collect(maps.Values(names)), "BLMOVE", "PING", "GET", "CLIENT ID", "CLIENT UNBLOCK", "HELLO", "EVAL")
}

// TestConnectionCut cuts the connection at every command that is sent: before
// it, after it and before its reply, with a reset, and so that it arrives when
// its sender has long gone on. Nothing is lost, and nothing even runs twice:
// what a lost reply told is asked for again. The commands of an operator are
// repeated by the operator, to the same end.
func TestConnectionCut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		act  faultproxy.Action
		late time.Duration
		most int // cuts of each command
		// delay: a sidecar that is disturbed while it counts another's absence
		// begins to count again, a reply that never comes is waited for, and what the
		// wrong one was woken for is found a second later.
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
			// Of a command's calls only the script is cut: it says that a call has failed,
			// and does not try again.
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

// occupy gives each slot a task for that long.
func (w *world) occupy(d time.Duration) {
	rs := w.work(12, 10)
	for i := range rs {
		rs[i].Ms = int(d.Milliseconds())
	}
	w.group(rs...)
	w.settle(40 * time.Second)
}

// life has sidecars send every command that they know: claims with and without
// waiting, by kinds and not, reports of all kinds, returns of lost tasks, delays, what must run alone, what workers ask,
// the reaping of one that is killed, stops.
func (w *world) life(p *faultproxy.Proxy, env ...string) {
	env = append(env, "SIDECAR_RETRY_BASE=200ms", "SIDECAR_REDIS_READ_TIMEOUT=2s", "SIDECAR_REDIS_PING_INTERVAL=300ms")
	s := setup{proxy: p, env: env}
	w.crew(2, s)
	some := s
	some.kinds = []string{"t*1", "t*2", "t*?4"}
	w.start(some).ready(1) // what it takes that is not its own, the others find
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
		wait.Pass(300 * time.Millisecond)
	}
	w.settle(40 * time.Second) // no task that asks for something is to run twice
	for range 6 {
		w.setAside(record{Ms: 5})
		w.settle(40 * time.Second)
	}
	w.occupy(6 * time.Second) // what is held is compared every five seconds, by who holds something
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
	for range 3 { // short lives: register, retire, reap, unblock
		short := w.start(s)
		short.ready(2)
		w.group(w.work(4, 30)...)
		w.settle(20 * time.Second)
		short.stop()
	}
}
