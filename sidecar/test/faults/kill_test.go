//go:build faults

package faults

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultproxy"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// sites are the steps of a task at which its sidecar is killed. At parent-start and
// parent-end the worker kills it; at the steps around a claim or a report, the proxy between
// sidecar and Redis does.
var sites = []string{
	"before the claim", "claimed, reply lost", "claimed", "parent-start", "parent-end",
	"before the report", "reported, reply lost", "reported", "any time",
}

var eager = []string{"SIDECAR_RESTART_BACKOFF_MAX=200ms"}

// storm kills sidecars, their workers and their workers' children while
// producers push.
type storm struct {
	*world
	scripts map[string]string // SHA-1 to name
	kills   atomic.Int64
	made    sync.Mutex
	by      map[string]int
	pushing chan struct{} // closed when the producers are to stop
}

// TestSIGKILL kills sidecars, workers and workers' children at every step: every record
// ends exactly once. Two sidecars are spared (their workers are not), so that one can always
// take over. Workers that die again and again are restarted without the growing pause that
// they would otherwise have, since the test measures how long a recovery takes.
func TestSIGKILL(t *testing.T) {
	t.Parallel()
	s := &storm{world: newWorld(t), scripts: scripts(t), by: map[string]int{}, pushing: make(chan struct{})}
	for range 2 {
		s.start(setup{spare: true, env: eager})
	}
	const victims = 5
	var wg, producers sync.WaitGroup
	for i := range 3 {
		producers.Go(func() { s.produce(i) })
	}
	end := time.Now().Add(atMost)
	for i := range victims {
		rnd := random(t, 10+i)
		wg.Go(func() {
			for turn := 0; s.kills.Load() < int64(runs) && time.Now().Before(end); turn++ {
				s.victim(sites[(turn+i*2+rnd.IntN(2))%len(sites)], rnd.IntN(1000))
			}
		})
	}
	wg.Go(func() { s.sniper(end) })
	wg.Wait()
	close(s.pushing)
	producers.Wait()
	s.settle(45 * time.Second)
	s.world.faults = int(s.kills.Load())
	s.verify("SIGKILL of sidecar, worker, worker's child, at every step")
	s.steps()
	if n := s.kills.Load(); n < int64(runs) {
		t.Errorf("%d kills within %v, want %d", n, atMost, runs)
	}
}

// steps adds to the table how often processes were killed at each step. In a run that is long
// enough, a step without a kill is an error.
func (s *storm) steps() {
	s.t.Helper()
	s.made.Lock()
	defer s.made.Unlock()
	events, err := s.hist.Read()
	if err != nil {
		s.t.Fatal(err)
	}
	by := maps.Clone(s.by)
	for _, site := range []string{"parent-start", "parent-end"} {
		delete(by, "sidecar: "+site) // counted below, from the workers' own events
	}
	for _, e := range events {
		if site := strikes[e.Text]; e.What == history.Kills && site != "" {
			by[site]++
		}
	}
	want := []string{"worker", "worker's child"}
	for _, site := range strikes {
		want = append(want, site)
	}
	for _, site := range sites {
		if !strings.HasPrefix(site, "parent-") {
			want = append(want, "sidecar: "+site)
		}
	}
	for _, what := range want {
		table.add(row{fault: "SIGKILL … of which " + what, runs: by[what]})
		if by[what] == 0 && runs >= 200 {
			s.t.Errorf("nothing was killed at the step %q", what)
		}
	}
}

// strikes names the kills that workers make themselves, in worker.strike.
var strikes = map[string]string{
	"parent-start": "sidecar: task dispatched",
	"parent-end":   "sidecar: task ended, not reported",
	"self-start":   "worker: task begun",
	"self-end":     "worker: task ended, not answered",
}

func (s *storm) struck(what string) {
	s.kills.Add(1)
	s.made.Lock()
	defer s.made.Unlock()
	s.by[what]++
}

// victim starts a sidecar, kills it at the given step or a little later, and counts the kill.
func (s *storm) victim(site string, luck int) {
	p, err := faultproxy.Start(s.server.Addr)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer p.Close()
	sc := s.start(setup{proxy: p, env: eager})
	life := time.Duration(300+luck) * time.Millisecond // its workers start meanwhile
	armed := time.Now().Add(life)
	if site == "any time" {
		s.await(sc, life)
		s.end(sc, site)
		return
	}
	fire := func() faultproxy.Verdict {
		sc.kill()
		return faultproxy.Verdict{}
	}
	during := func(script string, action faultproxy.Action) faultproxy.Rule {
		var once sync.Once
		return func(c faultproxy.Command) (v faultproxy.Verdict) {
			if s.script(c) == script && time.Now().After(armed) && s.worthIt(script) {
				once.Do(func() {
					v.Action = action
					switch action {
					case faultproxy.CutBefore:
						fire()
					case faultproxy.Swallow:
						time.AfterFunc(time.Duration(luck%20)*time.Millisecond, func() { fire() })
					}
				})
			}
			return v
		}
	}
	after := func(script string) func(faultproxy.Command) {
		return func(c faultproxy.Command) {
			if s.script(c) == script && time.Now().After(armed) && s.worthIt(script) {
				fire()
			}
		}
	}
	switch site {
	case "before the claim":
		p.SetRule(during("claim", faultproxy.CutBefore))
	case "claimed, reply lost":
		p.SetRule(during("claim", faultproxy.Swallow))
	case "claimed":
		p.SetReplied(after("claim"))
	case "before the report":
		p.SetRule(during("report", faultproxy.CutBefore))
	case "reported, reply lost":
		p.SetRule(during("report", faultproxy.Swallow))
	case "reported":
		p.SetReplied(after("report"))
	}
	s.await(sc, life+2*time.Second)
	if sc.over() {
		s.struck("sidecar: " + site)
		return
	}
	s.end(sc, "any time")
}

// worthIt reports whether a call of a script is a step of a task. A claim that finds the
// queue empty is not: the rule cannot know what a claim will bring, but it can see whether
// the queue has records.
func (s *storm) worthIt(script string) bool {
	if script != "claim" {
		return true
	}
	ctx, cancel := bounded()
	defer cancel()
	n, err := s.c.LLen(ctx, s.key("queue")).Result()
	return err == nil && n > 0
}

func (s *storm) script(c faultproxy.Command) string {
	if (c.Name == "EVALSHA" || c.Name == "EVAL") && len(c.Args) > 0 {
		return s.scripts[c.Args[0]]
	}
	return ""
}

func (s *storm) await(sc *sidecar, most time.Duration) {
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-sc.done:
	case <-timer.C:
	}
}

func (s *storm) end(sc *sidecar, what string) {
	sc.kill()
	<-sc.done
	s.struck("sidecar: " + what)
}

// sniper kills workers and workers' children of all sidecars at random instants.
func (s *storm) sniper(end time.Time) {
	for s.kills.Load() < int64(runs) && time.Now().Before(end) {
		wait.Pass(time.Duration(150+s.rnd.IntN(300)) * time.Millisecond)
		all := s.alive()
		sc := all[s.rnd.IntN(len(all))]
		workers := sc.children()
		if len(workers) == 0 {
			continue
		}
		pid := workers[s.rnd.IntN(len(workers))]
		if family := proc.Children(pid); len(family) > 0 && s.rnd.IntN(3) > 0 {
			_ = syscall.Kill(family[0], syscall.SIGKILL) // it may have just ended
			s.struck("worker's child")
			continue
		}
		if err := s.hist.Write(history.Event{What: history.Kills, Pid: pid, Text: "sniper"}); err != nil {
			s.t.Error(err)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
		s.struck("worker")
	}
}

// produce pushes groups, single records, groups that the producer gives up and records that
// are pushed twice. It keeps the queue short: a recovery must not wait behind other records.
func (s *storm) produce(n int) {
	rnd := random(s.t, 20+n)
	for i := 0; ; i++ {
		select {
		case <-s.pushing:
			return
		default:
		}
		if left, err := s.unfinished(); err == nil && left > 30 {
			wait.Pass(20 * time.Millisecond)
			continue
		}
		rs := make([]record, 3+rnd.IntN(6))
		for j := range rs {
			rs[j] = record{Ms: 5 + rnd.IntN(150)}
			switch rnd.IntN(12) {
			case 0, 3:
				rs[j].Do, rs[j].Ms = "family", 100+rnd.IntN(300)
			case 1:
				rs[j].Kill = []string{"parent-start", "parent-end", "parent-end", "self-start", "self-end"}[rnd.IntN(5)]
			case 2:
				rs[j].Size = 20_000
			}
		}
		switch i % 6 {
		case 0, 1, 2:
			s.group(rs...)
		case 3:
			for _, r := range rs {
				s.one(r)
			}
		case 4:
			s.twice(rs[0])
		case 5:
			if id := s.group(rs...); id != "" {
				s.giveUp(id)
			}
		}
	}
}
