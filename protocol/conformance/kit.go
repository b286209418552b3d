package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// kit tests one worker.
type kit struct {
	Worker
	judge *judge

	mu   sync.Mutex
	told string // what the worker says of itself
	logs sync.Mutex
}

// gate is the check without which no other can be made.
const gate = "start/answers"

const notStarted = "the worker does not start, see above"

// run plays all dialogues: the one about the start first, and if nothing comes
// of that no other.
func (k *kit) run(ctx context.Context, dialogues []*dialogue) (*Report, error) {
	results := make([][]Result, len(dialogues))
	results[0] = k.play(ctx, dialogues[0])
	broken := ""
	for _, r := range results[0] {
		if r.Check == gate && r.Status == Failed {
			broken = notStarted
		}
	}
	slots := make(chan struct{}, k.Parallel)
	var all sync.WaitGroup
	for i, d := range dialogues[1:] {
		if broken != "" {
			for _, c := range d.checks {
				results[i+1] = append(results[i+1], c.undone(broken))
			}
			continue
		}
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			results[i+1] = k.play(ctx, d)
		})
	}
	all.Wait()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("the test was ended: %w", context.Cause(ctx))
	}
	report := &Report{Worker: k.told}
	if report.Worker == "" {
		report.Worker = strings.Join(k.Command, " ")
	}
	if k.judge.prints > 0 {
		report.Worker += fmt.Sprintf("\nnote: %d lines on its stdout were no messages; the sidecar logs such prints (P5, P14). The first one: %s", k.judge.prints, k.judge.firstPrint)
	}
	for _, r := range results {
		report.Results = append(report.Results, r...)
	}
	if broken == "" {
		report.Results = append(report.Results, k.judge.results()...)
		return report, nil
	}
	for _, r := range k.judge.results() {
		if r.Status != Failed {
			r.Status, r.Seen = NotChecked, broken
		}
		report.Results = append(report.Results, r)
	}
	return report, nil
}

func (c *check) undone(why string) Result {
	return Result{Check: c.name, Rules: c.rules, Requires: c.requires, Status: NotChecked, Seen: why}
}

// play plays one dialogue.
func (k *kit) play(ctx context.Context, d *dialogue) []Result {
	var results []Result
	t := &talk{kit: k, ctx: ctx}
	defer func() { t.leave() }()
	for i, c := range d.checks {
		if ctx.Err() != nil {
			return results
		}
		if missing := k.missing(c); missing != "" {
			results = append(results, c.undone(missing))
			continue
		}
		if i > 0 && results[0].Check == gate && results[0].Status == Failed {
			results = append(results, c.undone(notStarted))
			continue
		}
		switch gone := t.peer == nil || t.peer.dead(); {
		case d.mode == chained && i > 0 && gone && !c.awaitsEnd():
			results = append(results, c.undone("the worker was gone by then, see "+d.name))
			continue
		case d.mode == apart, d.mode == shared && (gone || results[i-1].Status == Failed):
			// What failed may have left the worker stuck: the next check is to
			// say something about its own rule.
			t.leave()
			t = &talk{kit: k, ctx: ctx}
		}
		results = append(results, t.check(c))
	}
	return results
}

// awaitsEnd reports whether the check is about a worker's end and asks nothing
// more of it.
func (c *check) awaitsEnd() bool {
	return c.steps[len(c.steps)-1].verb == "exit" &&
		!slices.ContainsFunc(c.steps, func(s step) bool { return s.verb == "→" })
}

// missing says what a check needs and does not have.
func (k *kit) missing(c *check) string {
	for _, need := range c.needs {
		if need == "signals" {
			if !canSignal {
				return "this system has no signals"
			}
		} else if need != "one" && k.Records.named(need) == nil {
			return how[need]
		}
	}
	return ""
}

// introduce notes what the worker says of itself.
func (k *kit) introduce(who string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.told == "" {
		k.told = who
	}
}

// log writes a message of a dialogue to the log of all messages, if there is one.
func (k *kit) log(check, direction string, line []byte) {
	if k.Log == nil {
		return
	}
	k.logs.Lock()
	defer k.logs.Unlock()
	fmt.Fprintf(k.Log, "%s %s %s\n", check, direction, clip(line))
}
