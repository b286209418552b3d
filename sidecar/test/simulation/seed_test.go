//go:build simulation

package simulation

import (
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/linear"
)

// result is what one seed gave.
type result struct {
	Seed       uint64
	Virtual    time.Duration // of the fleet
	Sidecars   int           // in the fleet, at a time
	Tasks      int
	Starts     int
	Counts     map[string]int
	Violations []string
	Story      string // the last events that concern the first violation
	Hash       uint64 // of the history
	Plan       string
	Second     linear.Result // of the second judge
}

// runSeed simulates one seed.
func runSeed(t *testing.T, seed uint64, b breakage) (r result) {
	p := makePlan(rand.New(rand.NewPCG(seed, 0)))
	if b.plan != nil {
		b.plan(&p)
	}
	// go-redis keeps timers in pools, which must not pass from one bubble to the next.
	// Two collections empty a pool.
	runtime.GC()
	runtime.GC()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, seed, p, b)
		w.drive()
		w.heal()
		w.settle()
		w.awaitTheGone()
		w.checkHeap()
		virtual := time.Since(w.began)
		_ = w.admin.Close() // nothing is lost with it
		w.stopAll()
		w.judge()
		r = w.result(virtual)
	})
	return r
}

func (w *world) result(virtual time.Duration) result {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := result{Seed: w.seed, Virtual: virtual, Sidecars: w.plan.fleet, Tasks: len(w.tasks), Counts: w.counts, Violations: w.violations, Plan: fmt.Sprintf("%+v", w.plan), Second: *w.second}
	for _, b := range w.behaviours {
		r.Counts["worker: "+string(b)]++
	}
	h := fnv.New64a()
	for _, e := range w.events {
		if e.What == history.Started {
			r.Starts++
		}
		fmt.Fprintln(h, e.At, e.What, e.Task, e.Group, ids.ReplaceAllString(e.Text, "#"))
	}
	r.Hash = h.Sum64()
	if len(w.violations) > 0 {
		r.Story = w.story(w.violations[0])
	}
	return r
}

// ids are the random parts of run ids.
var ids = regexp.MustCompile(`[0-9a-f]{32}`)

// named are the tasks, groups and sidecars that a violation names.
var named = regexp.MustCompile(`\b([txp][0-9]{4}|g[0-9]{3}|s[0-9]+)\b`)

// story returns the last events that concern a violation, in a few lines.
func (w *world) story(violation string) string {
	about := named.FindAllString(violation, -1)
	for _, id := range about {
		if t := w.tasks[id]; t != nil && t.Group != "" {
			about = append(about, t.Group)
		}
	}
	const most = 30
	var lines []string
	add := func(e history.Event) {
		at := e.Time().Sub(w.began).Round(time.Millisecond)
		lines = append(lines, strings.TrimRight(fmt.Sprintf("%12v %-10s %-6s %-5s %-4s %s", at, e.What, e.Task, e.Group, number(e.Pid), ids.ReplaceAllString(short(e.Text), "#")), " "))
	}
	for _, e := range slices.Backward(w.events) {
		if e.What == broken {
			continue
		}
		concerns := slices.Contains(about, e.Task) || slices.Contains(about, e.Group) && e.Group != "" ||
			slices.ContainsFunc(about, func(id string) bool { return strings.Contains(e.Text, id) })
		if concerns || e.What == history.Fault || len(about) == 0 || e.What == "redis" {
			add(e)
		}
		if len(lines) == most {
			break
		}
	}
	slices.Reverse(lines)
	if w.behaviours != nil {
		for _, id := range about {
			if t := w.tasks[id]; t != nil {
				lines = append(lines, fmt.Sprintf("%s does %q, group %q", id, t.Do, t.Group))
			}
		}
	}
	for i, m := range w.members {
		if slices.Contains(about, m.name) || len(about) == 0 && i == len(w.members)-1 {
			for _, line := range m.log.last(8) {
				lines = append(lines, m.name+": "+strings.TrimRight(short(line), "\n"))
			}
		}
	}
	return strings.Join(lines, "\n")
}

func short(text string) string {
	if len(text) > 200 {
		return text[:200] + "…"
	}
	return text
}

func number(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// print writes what a failing seed is about.
func (r *result) print(to io.Writer) {
	fmt.Fprintf(to, "\nseed %d broke %d promises; replay it with: make simulate SEED=%d\n", r.Seed, len(r.Violations), r.Seed)
	for _, v := range r.Violations[:min(len(r.Violations), 5)] {
		fmt.Fprintf(to, "  violation: %s\n", short(v))
	}
	for _, v := range r.Second.Violations {
		fmt.Fprintf(to, "  picture: %s\n", v.Picture)
	}
	fmt.Fprintf(to, "  plan: %s\n", r.Plan)
	fmt.Fprintf(to, "history of the first one:\n%s\n", r.Story)
}
