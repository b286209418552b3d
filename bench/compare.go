package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
)

// before is the name of what is measured with the binary of an earlier commit.
func before(name string) string { return name + ", before" }

// paired is a ratio of the present binary over the earlier one, taken within
// each round. worst is the loss that is accepted: 0.95 of a rate, 1.05 of a time.
type paired struct {
	name, unit string
	worst      float64
	atMost     bool
}

// accepted is a loss of 5 %.
var accepted = []paired{
	{goChild, "tasks/s", 0.95, false},
	{goChild, allCPU, 1.05, true},
	{goChild, redisCPU, 1.05, true},
	{pythonChild, "tasks/s", 0.95, false},
	{pythonChild, allCPU, 1.05, true},
	{execMode, "tasks/s", 0.95, false},
	{execMode, allCPU, 1.05, true},
	{latency, "p50 ms", 1.05, true},
	{idle, "CPU % of a core", 1.05, true},
	{idle, "commands/s", 1.05, true},
	{idle, privateDirty, 1.05, true},
}

// comparison lists the measures of a comparison with an earlier binary: the same
// ones with each of the two, the earlier one first in odd rounds and last in even
// ones, so that neither always follows the other.
func (b *bench) comparison() []measure {
	var now, then []measure
	list := func(name func(string) string, program string) []measure {
		return []measure{
			{name: name(goChild), do: b.rate(name(goChild), 100_000, recordSize, nil, func() (*subject, error) { return b.goChildOf(program) })},
			{name: name(pythonChild), do: b.rate(name(pythonChild), 40_000, recordSize, nil, func() (*subject, error) {
				return start(b.sidecarEnv(b.pythonPath()), append([]string{program, "run", "--"}, b.pythonEcho()...)...)
			})},
			{name: name(execMode), do: b.rate(name(execMode), 1_500, recordSize, nil, func() (*subject, error) {
				return start(b.sidecarEnv("SIDECAR_MODE=exec", "MAX_CONCURRENT_TASKS=4"), program, "run", "--", "/bin/true")
			})},
			{name: name(latency), do: b.latency(name(latency), func() (*subject, error) { return b.goChildOf(program) }, 0)},
			{name: name(idle), do: b.idleOf(name(idle), func() (*subject, error) { return b.goChildOf(program) })},
		}
	}
	now = list(func(name string) string { return name }, b.program("sidecar"))
	then = list(before, filepath.Join(b.before, "sidecar"))
	all := make([]measure, 0, 2*len(now))
	for i := range now {
		all = append(all, b.inTurns(then[i], now[i])...)
	}
	return all
}

// inTurns has two measures change places from round to round.
func (b *bench) inTurns(first, second measure) []measure {
	round := 0
	do := func(ctx context.Context, odd, even func(context.Context) error) error {
		if round%2 == 0 {
			return odd(ctx)
		}
		return even(ctx)
	}
	return []measure{
		{name: first.name, do: func(ctx context.Context) error { return do(ctx, first.do, second.do) }},
		{name: second.name, do: func(ctx context.Context) error {
			defer func() { round++ }()
			return do(ctx, second.do, first.do)
		}},
	}
}

// goChildOf is a sidecar, given by its binary, with a Go worker of all slots.
func (b *bench) goChildOf(program string) (*subject, error) {
	return start(b.sidecarEnv("MAX_CONCURRENT_TASKS="+strconv.Itoa(slots), goWorker(slots)), program, "run", "--", self())
}

// compared is the table of a comparison; worse counts the rows that lost more than
// is accepted.
func (r *results) compared(rounds int) (text string, worse int) {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n%d rounds, in turns, in %s. Each ratio is taken within a round.\n\n", r.machine, rounds, r.took.Round(1e9))
	b.WriteString("| now over before | unit | before, median | now, median | ratio, min | median | max | accepted | |\n| --- | --- | ---: | ---: | ---: | ---: | ---: | --- | --- |\n")
	for _, p := range accepted {
		s, ok := r.ratio(p.unit, p.name, before(p.name), 1)
		if !ok {
			fmt.Fprintf(&b, "| %s | %s | | | | not measured | | | |\n", p.name, p.unit)
			continue
		}
		verdict, bound := "ok", "≥ "
		if p.atMost {
			bound = "≤ "
		}
		if p.atMost && s.median > p.worst || !p.atMost && s.median < p.worst {
			verdict = "worse"
			worse++
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s%s | %s |\n", p.name, p.unit,
			figure(spreadOf(r.samples[before(p.name)][p.unit]).median), figure(spreadOf(r.samples[p.name][p.unit]).median),
			s.cells(), bound, figure(p.worst), verdict)
	}
	return b.String(), worse
}
