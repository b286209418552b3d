//go:build faults

package faults

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// crowdSize is the number of sidecars that share one queue.
const crowdSize = 20

// TestCrowdRestarted makes many sidecars lose Redis at once, and stops and starts all of
// them at once. After the outage they do not all reconnect at the same moment, each of
// them gets its share of the work again, and no record is lost.
func TestCrowdRestarted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.newProxy(w.server.Addr)
	s := setup{proxy: p, env: []string{"MAX_CONCURRENT_TASKS=1"}}
	gather := func() {
		all := make([]*sidecar, crowdSize)
		for i := range all {
			all[i] = w.start(s)
		}
		for _, sc := range all {
			sc.ready(1)
		}
	}
	gather()
	w.feed("all started at once")

	w.hurt("Redis lost by all")
	p.Refuse()
	wait.Pass(3 * time.Second)
	back := time.Now()
	if err := p.Accept(); err != nil {
		t.Fatal(err)
	}
	wait.Within(t, outageRecovery, "a word from all that they are back", func() bool {
		for _, sc := range w.alive() {
			if !sc.says("redis is back") {
				return false
			}
		}
		return true
	})
	wait.Pass(time.Until(back.Add(outageRecovery))) // the sidecars open their other connections one by one
	w.spread(p.Accepted(), back)
	w.feed("after Redis was lost")

	for _, stop := range []struct {
		how  string
		stop func()
	}{
		{"SIGTERM", w.stopAll},
		{"SIGKILL", func() {
			all := w.alive()
			for _, sc := range all {
				sc.kill()
			}
			for _, sc := range all {
				<-sc.done
			}
		}},
	} {
		rs := w.work(3*crowdSize, 100)
		for i := range rs {
			rs[i].Ms += 400 // long enough that many are in flight at the stop
		}
		g := w.group(rs...)
		wait.Pass(100 * time.Millisecond)
		w.hurt(stop.how + " of all")
		stop.stop()
		gather()
		w.feed("after " + stop.how + " of all")
		wait.Within(t, history.BarrierWait, g+" to be done", func() bool {
			ctx, cancel := bounded()
			defer cancel()
			n, err := w.c.Get(ctx, w.key("barrier", g)).Int()
			return err == nil && n == 3*crowdSize
		})
	}
	w.settle(20 * time.Second)
	w.verify(fmt.Sprintf("restart of %d sidecars at once", crowdSize))
}

// feed pushes records at a steady rate below the capacity of all sidecars, and checks that
// every sidecar gets a share of them.
func (w *world) feed(when string) {
	w.t.Helper()
	w.settle(20 * time.Second)
	const shares = 8
	began := time.Now()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range shares * crowdSize / 4 {
				w.one(record{Ms: 10})
				wait.Pass(15 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	w.settle(20 * time.Second)
	events, err := w.hist.Read()
	if err != nil {
		w.t.Fatal(err)
	}
	got := map[int]int{}
	for _, sc := range w.alive() {
		got[sc.pid()] = 0
	}
	for _, e := range events {
		if e.What == history.Started && e.Time().After(began) {
			got[e.Parent]++
		}
	}
	least, most := slices.Min(values(got)), slices.Max(values(got))
	w.t.Logf("%s: %d sidecars got %d to %d tasks", when, len(got), least, most)
	if len(got) != crowdSize || least < shares/4 {
		w.violation("%s: of %d tasks some sidecars got only %d: %v", when, shares*crowdSize, least, got)
	}
}

func values[K comparable](m map[K]int) (all []int) {
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

// spread checks that the connections after an outage do not all arrive at once.
func (w *world) spread(accepted []time.Time, back time.Time) {
	w.t.Helper()
	const slice = 100 * time.Millisecond
	total, by := 0, map[time.Duration]int{}
	for _, at := range accepted {
		if d := at.Sub(back); d >= 0 && d < 5*time.Second {
			total++
			by[d/slice]++
		}
	}
	most := slices.Max(values(by))
	w.t.Logf("%d connections after the outage, at most %d in %v, in %d slices", total, most, slice, len(by))
	if most > total/2 || len(by) < 5 {
		w.violation("%d of %d connections came within %v", most, total, slice)
	}
}
