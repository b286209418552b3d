package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
)

// results are the samples of everything that was measured, in the order of the
// rounds.
type results struct {
	order   []string
	samples map[string]map[string][]float64 // name → unit → one a round
	left    map[string]string               // name → why it was not measured
	machine string
	took    time.Duration
}

func newResults() *results {
	return &results{samples: map[string]map[string][]float64{}, left: map[string]string{}}
}

func (r *results) add(name, unit string, value float64) {
	if r.samples[name] == nil {
		r.samples[name] = map[string][]float64{}
		r.order = append(r.order, name)
	}
	r.samples[name][unit] = append(r.samples[name][unit], value)
}

// spread is what a table shows of samples.
type spread struct{ least, median, most float64 }

func spreadOf(samples []float64) spread {
	s := slices.Sorted(slices.Values(samples))
	if len(s) == 0 {
		return spread{}
	}
	return spread{s[0], (s[(len(s)-1)/2] + s[len(s)/2]) / 2, s[len(s)-1]}
}

// ratio compares two things round by round: what else the machine did in a
// round met both.
func (r *results) ratio(unit, over, under string, scale float64) (spread, bool) {
	a, b := r.samples[over][unit], r.samples[under][unit]
	n := min(len(a), len(b))
	if n == 0 {
		return spread{}, false
	}
	list := make([]float64, n)
	for i := range list {
		list[i] = a[i] / b[i] * scale
	}
	return spreadOf(list), true
}

// figure writes a number with three significant digits.
func figure(v float64) string {
	switch {
	case v >= 1000:
		digits := fmt.Sprintf("%.0f", v)
		for i := len(digits) - 3; i > 0; i -= 3 {
			digits = digits[:i] + "," + digits[i:]
		}
		return digits
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.3g", v)
	}
}

func (s spread) cells() string {
	return figure(s.least) + " | " + figure(s.median) + " | " + figure(s.most)
}

func (r *results) markdown(rounds int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Results of `make bench`\n\nWritten by the program in this folder; docs/performance.md says what follows from it.\n\n")
	fmt.Fprintf(&b, "%s\n\n%d rounds, interleaved, in %s. Only ratios within the run mean anything: the machine is shared.\n", r.machine, rounds, r.took.Round(time.Second))
	r.goals(&b)
	r.sweeps(&b)
	b.WriteString("\n## Everything that was measured\n\n| what | unit | min | median | max |\n| --- | --- | ---: | ---: | ---: |\n")
	for _, name := range r.order {
		for _, unit := range slices.Sorted(maps.Keys(r.samples[name])) {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", name, unit, spreadOf(r.samples[name][unit]).cells())
		}
	}
	for name, why := range r.left {
		fmt.Fprintf(&b, "\nNot measured: %s, since %s.\n", name, why)
	}
	return b.String()
}

// sweeps is the table of the rates as one thing changes and the others stay.
func (r *results) sweeps(b *strings.Builder) {
	b.WriteString("\n## Sweeps\n\n| tasks/s by | | min | median | max |\n| --- | ---: | ---: | ---: | ---: |\n")
	for _, sweep := range []struct {
		name, title string
		values      []int
	}{
		{sweepSlots, "slots (one Go child)", slotCounts},
		{sweepChildren, "children (64 slots)", childCounts},
		{sweepSize, "record size in bytes", recordSizes},
		{sweepFleet, "sidecars on one queue (8 slots each)", fleetSizes},
	} {
		for _, v := range sweep.values {
			if samples := r.samples[at(sweep.name, v)]["tasks/s"]; len(samples) > 0 {
				fmt.Fprintf(b, "| %s | %d | %s |\n", sweep.title, v, spreadOf(samples).cells())
			}
		}
	}
}

// benchstat prints the samples in the format of Go benchmarks, which benchstat reads: a
// line for each sample, with one value for each unit.
func (r *results) benchstat() string {
	word := strings.NewReplacer(" ", "_", ",", "")
	var b strings.Builder
	for _, name := range r.order {
		units := slices.Sorted(maps.Keys(r.samples[name]))
		for i := 0; ; i++ {
			var line strings.Builder
			for _, unit := range units {
				if list := r.samples[name][unit]; i < len(list) {
					fmt.Fprintf(&line, "\t%g %s", list[i], word.Replace(unit))
				}
			}
			if line.Len() == 0 {
				break
			}
			fmt.Fprintf(&b, "Benchmark/%s\t1%s\n", word.Replace(name), line.String())
		}
	}
	return b.String()
}

// goals is the table of the ratios that the project has set itself.
func (r *results) goals(b *strings.Builder) {
	b.WriteString("\n## Goals\n\nA ratio is taken within each round; its median counts.\n\n| goal | at least / at most | min | median | max | |\n| --- | --- | ---: | ---: | ---: | --- |\n")
	for _, g := range goals {
		s, ok := g.value(r)
		if !ok {
			fmt.Fprintf(b, "| %s | %s | | not measured | | |\n", g.name, g.bound())
			continue
		}
		verdict := "missed"
		if g.limit == 0 {
			fmt.Fprintf(b, "| %s | | %s | |\n", g.name, s.cells())
			continue
		}
		if g.atMost && s.median <= g.limit || !g.atMost && s.median >= g.limit {
			verdict = "met"
		}
		fmt.Fprintf(b, "| %s | %s | %s | %s |\n", g.name, g.bound(), s.cells(), verdict)
	}
}

// goal is one of those, or, without a limit, what stands beside one to explain it.
type goal struct {
	name   string
	limit  float64
	atMost bool
	value  func(r *results) (spread, bool)
}

func (g goal) bound() string {
	if g.atMost {
		return "≤ " + figure(g.limit)
	}
	return "≥ " + figure(g.limit)
}

func over(unit, a, b string, scale float64) func(*results) (spread, bool) {
	return func(r *results) (spread, bool) { return r.ratio(unit, a, b, scale) }
}

func plain(name, unit string) func(*results) (spread, bool) {
	return func(r *results) (spread, bool) {
		list := r.samples[name][unit]
		return spreadOf(list), len(list) > 0
	}
}

// allowed is the ratio of two rates that there would be if the processors did
// nothing but what the first of them needs, all the time: a sidecar, its worker and
// Redis share them, and the last two are single threads, or as good as.
func (r *results) allowed(name, under string) (spread, bool) {
	cpu, worker, redis, rate := r.samples[name][allCPU], r.samples[name][workersCPU], r.samples[name][redisCPU], r.samples[under]["tasks/s"]
	n := min(len(cpu), len(worker), len(redis), len(rate))
	list := make([]float64, n)
	for i := range list {
		list[i] = 1e6 / max((cpu[i]+redis[i])/float64(runtime.NumCPU()), worker[i], redis[i]) / rate[i]
	}
	return spreadOf(list), n > 0
}

// benthos is what Redis → subprocess → Redis reached in Benthos, without any
// guarantee, over what Graflow's worker reached on the same machine.
const benthos = 12_300.0 / 1_100

var goals = []goal{
	{"Go child over null sidecar", 0.80, false, over("tasks/s", goChild, nullSidecar, 1)},
	{"null sidecar over batch 1, one connection", 20, false, over("tasks/s", nullSidecar, nullBatch1, 1)},
	{"Go child over Benthos, scaled by Graflow's worker", 10, false, over("tasks/s", goChild, graflowOwn, 1/benthos)},
	{"Go child over Graflow's worker", 100, false, over("tasks/s", goChild, graflowOwn, 1)},
	{"Python SDK over the bare pipe to the same child", 0.75, false, over("tasks/s", pythonChild, pythonPipe, 1)},
	{"… what the processors allow of that", 0, false, func(r *results) (spread, bool) { return r.allowed(pythonChild, pythonPipe) }},
	{"mode exec over bare fork+exec", 0.8, false, over("tasks/s", execMode, forkExec, 1)},
	{"--graflow over Graflow's worker, 4 at once each", 2, false, over("tasks/s", graflowTask, graflowOwn, 1)},
	{"… CPU a task", 1, true, over(allCPU, graflowTask, graflowOwn, 1)},
	{"latency p50 over the bare sum", 1.25, true, over("p50 ms", latency, latencyBare, 1)},
	{"latency p99, ms", 3, true, plain(latency, "p99 ms")},
	{"latency p50 beside a backlog of slow tasks over idle", 1.5, true, over("p50 ms", latencyBusy, latency, 1)},
	{"idle: CPU, % of a core", 0.05, true, plain(idle, "CPU % of a core")},
	{"idle: commands/s", 3, true, plain(idle, "commands/s")},
	{"idle: private dirty memory, MB", 8, true, plain(idle, privateDirty)},
	{"claimed and not started at full rate, p99, ms", 10, true, plain(ahead, "p99 ms")},
	{"a queue of a million over one of a thousand", 0.95, false, over("tasks/s", deepQueue, shallowQueue, 1)},
	{"beside 50 idle sidecars over alone", 0.9, false, over("tasks/s", besideIdle, besideNone, 1)},
	{"1 MB records over the bare loop", 0.7, false, over("tasks/s", at(sweepSize, largeRecord), bigBare, 1)},
	{"memory with 1 MB records, over 64 slots × size", 3, true, plain(memoryOf(slots), "of slots × size")},
	{"… over 8 slots × size", 3, true, plain(memoryOf(fewSlots), "of slots × size")},
	{"start to first task, ms", 60, true, plain(startUp, "ms")},
	{"binary, MB", 45, true, plain(binary, "MB")},
}

// describeMachine says what the figures were measured on.
func describeMachine(ctx context.Context, server *redisServer, o options) string {
	model := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	info, _ := server.client.Info(ctx, "server").Result()
	first := func(command ...string) string {
		out, _ := exec.CommandContext(ctx, command[0], command[1:]...).Output()
		return strings.TrimSpace(string(out))
	}
	versions := first(o.python, "-c", "import importlib.metadata as m; print(', '.join(f'{p} {m.version(p)}' for p in ('graflow', 'redis', 'rq', 'celery') if any(True for d in m.distributions() if d.metadata['Name'] == p)))")
	return fmt.Sprintf("%d cores (%s), %s, %s; Redis %s on the same machine; Python %s, %s.", runtime.NumCPU(), model, runtime.Version(),
		first("uname", "-sr"), infoField(info, "redis_version"), strings.TrimPrefix(first(o.python, "-V"), "Python "), versions)
}
