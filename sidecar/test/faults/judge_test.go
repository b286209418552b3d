//go:build faults

package faults

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"
)

// TestTheChecksSeeWhatTheyMust gives the checks made-up histories: they report each broken
// promise, and nothing for a history in which all promises were kept.
func TestTheChecksSeeWhatTheyMust(t *testing.T) {
	t.Parallel()
	const task, group = "t", "g"
	at := func(ms int) int64 { return int64(ms) * 1e6 }
	success := fmt.Sprintf(`{"task_id":%q,"success":true}`, task)
	start := history.Event{At: at(10), What: history.Started, Task: task, Pid: 7, Delivery: "w.1"}
	end := history.Event{At: at(20), What: history.Ended, Task: task, Pid: 7}
	told := history.Event{At: at(30), What: history.Completed, Task: task, Group: group, Text: success}
	count := history.Event{At: at(31), What: history.Counted, Group: group, Text: "1"}
	done := history.Event{At: at(32), What: history.Published, Group: group}
	whole := []history.Event{start, end, told, count, done}
	recorded := func() history.Final {
		return history.Final{
			Completions: map[string]map[string]history.Completion{group: {task: {TaskID: task, Success: true}}},
			Counters:    map[string]int{group: 1}, Results: map[string]string{},
		}
	}
	for _, c := range []struct {
		name   string
		events []history.Event
		left   func(f *history.Final)
		world  func(w *world)
		want   string // part of a violation; empty: there is no violation
	}{
		{"as it should be", whole, nil, nil, ""},
		{"no completion", []history.Event{start, end}, func(f *history.Final) { clear(f.Completions[group]); f.Counters[group] = 0 }, nil, "is lost"},
		{"completed twice", append(slices.Clone(whole), told), nil, nil, "was completed 2 times"},
		{"counted twice", append(slices.Clone(whole), count), func(f *history.Final) { f.Counters[group] = 2 }, nil, "counter 2, distinct completions 1"},
		{"counted by another sidecar", append(slices.Clone(whole), count), nil, nil, "was counted 2 times"},
		{"completed before its end", []history.Event{start, {At: at(25), What: history.Completed, Task: task, Group: group, Text: success}, {At: at(40), What: history.Ended, Task: task}, count, done}, nil, nil, "before its worker had ended it"},
		{"run twice for nothing", append(slices.Clone(whole), history.Event{At: at(12), What: history.Started, Task: task, Pid: 8}), nil, nil, "ran 2 times"},
		{"run twice, for its worker was killed", append(slices.Clone(whole), history.Event{At: at(12), What: history.Started, Task: task, Pid: 8}, history.Event{At: at(11), What: history.Kills, Pid: 7}), nil, nil, ""},
		{"run twice, for its sidecar was killed", append(slices.Clone(whole), history.Event{At: at(12), What: history.Started, Task: task, Pid: 8}), nil, func(w *world) {
			w.hits = append(w.hits, hit{at: time.Unix(0, at(11)), who: "s", tasks: []string{task}})
		}, ""},
		{"back in time, and run when a slot was free", append(slices.Clone(whole), history.Event{At: at(9_000), What: history.Returned, Task: task}, history.Event{At: at(12_011), What: history.Started, Task: task, Pid: 8}), nil, func(w *world) {
			w.hits = append(w.hits, hit{at: time.Unix(0, at(11)), who: "s", tasks: []string{task}})
		}, ""},
		{"recovered late", append(slices.Clone(whole), history.Event{At: at(12_011), What: history.Started, Task: task, Pid: 8}), nil, func(w *world) {
			w.hits = append(w.hits, hit{at: time.Unix(0, at(11)), who: "s", tasks: []string{task}})
		}, "the recovery began after 12s"},
		{"recovered late, for the machine stood still", append(slices.Clone(whole), history.Event{At: at(12_011), What: history.Started, Task: task, Pid: 8}), nil, func(w *world) {
			w.hits = append(w.hits, hit{at: time.Unix(0, at(11)), who: "s", tasks: []string{task}})
			w.stalls = &stalls{seen: []stall{{time.Unix(0, at(8_000)), time.Unix(0, at(9_000))}}}
		}, ""},
		{"recovered late, long after the machine stood still", append(slices.Clone(whole), history.Event{At: at(12_011), What: history.Started, Task: task, Pid: 8}), nil, func(w *world) {
			w.hits = append(w.hits, hit{at: time.Unix(0, at(11)), who: "s", tasks: []string{task}})
			w.stalls = &stalls{seen: []stall{{time.Unix(0, at(6_000)), time.Unix(0, at(7_000))}}}
		}, "the recovery began after 12s"},
		{"a dead letter for nothing", whole, func(f *history.Final) { f.Letters = []history.Letter{{Task: task}} }, nil, "dead letters and success true"},
		{"failed for nothing", []history.Event{start, end, count, done}, func(f *history.Final) {
			text := "lost"
			f.Completions[group][task] = history.Completion{TaskID: task, Error: &text}
		}, nil, "failed: lost"},
		{"its producer is not told", []history.Event{start, end, told, count}, nil, nil, "its producer was not told"},
		{"told too late", []history.Event{start, end, told, count, {At: at(31_000), What: history.Published, Group: group}}, nil, nil, "took 31s"},
		{"a group that was given up is counted", whole, nil, func(w *world) { w.groups[group].Over = true }, "is over and was counted"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{
				t: t, obs: &observer{}, tasks: map[string]*history.Task{task: {ID: task, Group: group, Pushes: 1}},
				groups: map[string]*history.Group{group: {ID: group, Expected: 1, At: time.Unix(0, 0)}},
			}
			if c.world != nil {
				c.world(w)
			}
			left := recorded()
			if c.left != nil {
				c.left(&left)
			}
			w.judge(history.Tell(slices.Clone(c.events)), left)
			all := strings.Join(w.broken, "\n")
			if (c.want == "") != (all == "") || !strings.Contains(all, c.want) {
				t.Errorf("violations:\n%s\nwant one of %q", all, c.want)
			}
		})
	}
}
