package linear_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/linear"
)

const (
	task, other, group = "t", "u", "g"
	success            = `{"success":true}`
	failure            = `{"success":false}`
)

// e makes an event about the first task.
func e(what string, more ...string) history.Event {
	ev := history.Event{What: what, Task: task, Group: group}
	for _, m := range more {
		key, value, _ := strings.Cut(m, "=")
		switch key {
		case "task":
			ev.Task = value
		case "group":
			ev.Group = value
		case "d":
			ev.Delivery = value
		case "text":
			ev.Text = value
		case "pid":
			ev.Pid = int(value[0])
		}
	}
	return ev
}

// parts of histories
func push() []history.Event { return []history.Event{e(history.Pushing), e(history.Pushed)} }

func claim(d string) history.Event { return e(history.Claimed, "d="+d) }

func run(d, pid string) []history.Event {
	return []history.Event{e(history.Started, "d="+d, "pid="+pid), e(history.Ended, "d="+d, "pid="+pid)}
}

func report(d, completion string) []history.Event {
	return []history.Event{
		e(history.Completed, "text="+completion), e(history.Counted, "text=1"),
		e(history.Published), e(history.Removed, "d="+d),
	}
}

func bury(d string) []history.Event {
	return []history.Event{
		e(history.Unburied, "d="+d), e(history.Buried, "d="+d), e(history.Completed, "text="+failure),
		e(history.Counted, "text=1"), e(history.Published), e(history.Removed, "d="+d),
	}
}

func back(d string) []history.Event {
	return []history.Event{e(history.Returned), e(history.Removed, "d="+d)}
}

func join(parts ...any) (all []history.Event) {
	for _, p := range parts {
		switch p := p.(type) {
		case history.Event:
			all = append(all, p)
		case []history.Event:
			all = append(all, p...)
		}
	}
	return all
}

// whole is a history in which everything is as it should be.
func whole() []history.Event {
	return join(push(), claim("a.1"), run("a.1", "7"), report("a.1", success))
}

// ended is what Redis holds behind a group of one task.
func ended(ok bool) history.Final {
	return history.Final{
		Completions: map[string]map[string]history.Completion{group: {task: {TaskID: task, Success: ok}}},
		Counters:    map[string]int{group: 1},
	}
}

// empty is a Redis that holds nothing.
func empty() history.Final { return history.Final{} }

func dead() history.Final {
	f := ended(false)
	f.Letters = []history.Letter{{Task: task}}
	return f
}

// TestHistories gives the judge made-up histories. It allows the good ones and finds what is
// wrong in the others.
func TestHistories(t *testing.T) {
	for _, c := range []struct {
		name   string
		events []history.Event
		left   history.Final
		judge  func(j *linear.Judge)
		want   string // part of a violation; empty if the history has none
	}{
		{"as it should be", whole(), ended(true), nil, ""},
		{"a failure of the task", join(push(), claim("a.1"), e(history.Started, "d=a.1", "pid=7"), report("a.1", failure)), ended(false), nil, ""},
		{
			"a push whose reply was lost, and that was applied",
			slices.Delete(whole(), 1, 2), ended(true), func(j *linear.Judge) { j.Tasks[task].Pushes = 0 }, "",
		},
		{
			"a push whose reply was lost, and that was never applied",
			join(whole(), e(history.Pushing)), ended(true), nil, "",
		},
		{
			"a push whose reply was lost, and that was applied after the next one",
			join(e(history.Pushing), push(), claim("a.1"), run("a.1", "7"), report("a.1", success),
				claim("b.1"), run("b.1", "8"), e(history.Removed, "d=b.1")), ended(true), nil, "",
		},
		{
			"the acknowledgement comes when the task has ended",
			join(e(history.Pushing), claim("a.1"), run("a.1", "7"), report("a.1", success), e(history.Pushed)), ended(true), nil, "",
		},
		{
			"redelivery after the death of a worker",
			join(push(), claim("a.1"), e(history.Started, "d=a.1", "pid=7"), e(history.Kills, "pid=7"), back("a.1"),
				claim("a.2"), run("a.2", "8"), report("a.2", success)), ended(true), nil, "",
		},
		{
			"redelivery after the death of a sidecar, and a late outcome that is dropped",
			join(push(), claim("a.1"), e(history.Started, "d=a.1", "pid=7"), e(history.Retired, "text=a"), back("a.1"),
				claim("b.1"), run("b.1", "8"), e(history.Ended, "d=a.1", "pid=7"), report("b.1", success)), ended(true), nil, "",
		},
		{
			"a frozen sidecar begins what was taken from it",
			join(push(), claim("a.1"), e(history.Retired, "text=a"), back("a.1"), claim("b.1"), run("b.1", "8"), report("b.1", success), run("a.1", "7")),
			ended(true), nil, "",
		},
		{
			"a record is returned that was not begun",
			join(push(), claim("a.1"), back("a.1"), claim("b.1"), run("b.1", "8"), report("b.1", success)), ended(true), nil, "",
		},
		{
			"an exhausted record is entered anew by its reaper",
			join(push(), claim("a.1"), e(history.Started, "d=a.1", "pid=7"), e(history.Retired, "text=a"), claim("b.1"), e(history.Removed, "d=a.1"), bury("b.1")),
			dead(), nil, "",
		},
		{
			"a task that asks for another run",
			join(push(), claim("a.1"), e(history.Started, "d=a.1", "pid=7"), e(history.Delayed, "d=a.1"), e(history.Removed, "d=a.1"),
				claim("a.2"), run("a.2", "7"), report("a.2", success)), ended(true), func(j *linear.Judge) {
				j.MayRepeat = func(*history.Task) bool { return true }
			}, "",
		},
		{
			"pushed twice, counted once",
			join(push(), push(), claim("a.1"), run("a.1", "7"), report("a.1", success), claim("a.2"), run("a.2", "7"), e(history.Removed, "d=a.2")),
			ended(true), func(j *linear.Judge) { j.Tasks[task].Pushes = 2 }, "",
		},
		{"a dead letter", join(push(), claim("a.1"), bury("a.1")), dead(), nil, ""},
		{
			"a dead letter that is requeued while its group waits",
			join(push(), claim("a.1"), e(history.Buried, "d=a.1"), e(history.Completed, "text="+failure), e(history.Counted, "text=1"), e(history.Removed, "d=a.1"),
				e(history.Revoked), e(history.Counted, "text=-1"), e(history.Added), e(history.Unburied, "d=a.1"),
				claim("a.2"), run("a.2", "7"), e(history.Completed, "text="+success), e(history.Counted, "text=1"), e(history.Removed, "d=a.2")),
			ended(true), func(j *linear.Judge) { j.Groups[group].Expected = 2 }, "",
		},
		{
			"its producer gives up",
			join(push(), claim("a.1"), run("a.1", "7"), e(history.GivingUp), e(history.Removed, "d=a.1")),
			empty(), func(j *linear.Judge) { j.Groups[group].Over = true }, "",
		},
		{
			"its producer gives up while it is reported",
			join(push(), claim("a.1"), run("a.1", "7"), e(history.GivingUp), report("a.1", success)),
			empty(), func(j *linear.Judge) { j.Groups[group].Over = true }, "",
		},
		{
			"without a group",
			join(e(history.Pushing, "group="), e(history.Pushed, "group="), claim("a.1"), run("a.1", "7"), e(history.Value), e(history.Removed, "d=a.1")),
			history.Final{Results: map[string]string{task: "1"}},
			single, "",
		},
		{
			"Redis forgets a record",
			join(push(), claim("a.1"), e(history.Forgot, "task="), e(history.Started, "d=a.1", "pid=7")),
			empty(), func(j *linear.Judge) { j.Tasks[task].Pushes, j.Groups[group].Over = 0, true }, "",
		},
		{"not observed all the time", join(push(), run("a.1", "7")), ended(true), func(j *linear.Judge) { j.Gaps = true }, ""},

		{"lost from what is in flight", join(push(), claim("a.1"), run("a.1", "7"), e(history.Removed, "d=a.1")), empty(), nil, "it is lost"},
		{"lost from the queue", push(), empty(), nil, "1 copies have not ended"},
		{"never removed", join(push(), claim("a.1"), run("a.1", "7")), empty(), nil, "1 deliveries are in flight"},
		{"its completion is lost", whole(), empty(), nil, "Redis holds another completion"},
		{
			"lost, where not all was observed", join(push(), run("a.1", "7")), empty(),
			func(j *linear.Judge) { j.Gaps = true }, "Redis holds no end of it",
		},
		{
			"counted twice",
			join(push(), push(), claim("a.1"), run("a.1", "7"), report("a.1", success), claim("a.2"), run("a.2", "7"), report("a.2", success)),
			ended(true), func(j *linear.Judge) { j.Groups[group].Expected = 2 }, "it was completed twice",
		},
		{"counted twice for one completion", join(whole(), e(history.Counted, "text=1")), ended(true), nil, "its counter went by 1, with 0 new completions"},
		{"ran after its end", join(whole(), e(history.Started, "d=a.1", "pid=8")), ended(true), nil, "it ran twice in one delivery"},
		{"began after its end", join(push(), claim("a.1"), bury("a.1"), e(history.Started, "d=a.1", "pid=7")), dead(), nil, "it ran after its delivery was over"},
		{
			"claimed after its end",
			join(whole(), claim("b.1"), run("b.1", "8"), e(history.Removed, "d=b.1")), ended(true), nil, "it was claimed while all its copies",
		},
		{
			"claimed by two sidecars",
			join(push(), claim("a.1"), claim("b.1"), run("a.1", "7"), report("a.1", success), e(history.Removed, "d=b.1")), ended(true), nil, "it was claimed while all its copies",
		},
		{
			"claimed by two sidecars, one of which is over",
			join(push(), claim("a.1"), e(history.Retired, "text=a"), claim("b.1"), run("b.1", "7"), report("b.1", success), e(history.Removed, "d=a.1")),
			ended(true), nil, "one copy is in flight twice",
		},
		{
			"ran twice for nothing",
			join(push(), claim("a.1"), e(history.Started, "d=a.1", "pid=7"), back("a.1"), claim("a.2"), run("a.2", "8"), report("a.2", success)),
			ended(true), nil, "nothing ended its worker or its run",
		},
		{
			"ran twice, and another worker was killed",
			join(push(), claim("a.1"), e(history.Started, "d=a.1", "pid=7"), e(history.Kills, "pid=9"), back("a.1"), claim("a.2"), run("a.2", "8"), report("a.2", success)),
			ended(true), nil, "nothing ended its worker or its run",
		},
		{"ran before its push", join(claim("a.1"), run("a.1", "7"), push(), report("a.1", success)), ended(true), nil, "it was claimed while all its copies"},
		{"ran without a claim", join(push(), run("a.1", "7"), claim("a.1"), report("a.1", success)), ended(true), nil, "it ran without having been claimed"},
		{
			"completed before its worker has ended it",
			join(push(), claim("a.1"), e(history.Started, "d=a.1", "pid=7"), report("a.1", success), e(history.Ended, "d=a.1", "pid=7")),
			ended(true), nil, "completed before its worker had ended it",
		},
		{
			"a late outcome that counts",
			join(push(), claim("a.1"), run("a.1", "7"), e(history.Retired, "text=a"), back("a.1"), e(history.Completed, "text="+success),
				e(history.Counted, "text=1"), e(history.Published), claim("b.1"), run("b.1", "8"), e(history.Removed, "d=b.1")),
			ended(true), nil, "it was completed, and was not in flight",
		},
		{
			"two claims with one id",
			join(push(), claim("a.1"), back("a.1"), claim("a.1"), run("a.1", "7"), report("a.1", success)), ended(true), nil, "two claims have one delivery id",
		},
		{"a dead letter is lost", join(push(), claim("a.1"), bury("a.1")), ended(false), nil, "1 dead letters were written and Redis holds 0"},
		{
			"a result without an end",
			join(e(history.Pushing, "group="), e(history.Pushed, "group="), claim("a.1"), e(history.Started, "d=a.1", "pid=7"), e(history.Value), e(history.Removed, "d=a.1")),
			history.Final{Results: map[string]string{task: "1"}},
			single, "no worker had ended it",
		},
		{
			"a record that fell out of Redis' order",
			join(push(), claim("a.1"), run("a.1", "7"), e(history.Removed, "d=a.1"), e(history.Completed, "text="+success), e(history.Counted, "text=1"), e(history.Published)),
			ended(true), nil, "it is lost",
		},
		{
			"counted when its producer had given up",
			join(whole(), e(history.GivingUp)), ended(true), func(j *linear.Judge) { j.Groups[group].Over = true }, "its counter is 1, and was counted to 0",
		},
		{
			"more than are expected", append(whole(), second()...), both(), func(j *linear.Judge) { addTask(j, other); j.Groups[group].Expected = 1 },
			"its counter is 2 and 1 are expected",
		},
		{
			"done before the last member", append(whole(), second()...), both(), func(j *linear.Judge) { addTask(j, other) },
			"its end was published when 1 of 2 tasks were done",
		},
		{
			"its producer is never told", slices.DeleteFunc(whole(), func(x history.Event) bool { return x.What == history.Published }),
			ended(true), nil, "its producer was not told",
		},
		{"told twice", join(whole(), e(history.Published)), ended(true), nil, "published twice"},
		{
			"a stranger is counted",
			join(whole(), e(history.Completed, "task=x", "text="+success), e(history.Counted, "text=1")), ended(true), nil, "x is not of this group",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, skew := range []time.Duration{0, time.Millisecond} {
				j := judge(t)
				j.Skew = skew
				if c.judge != nil {
					c.judge(j)
				}
				r := j.Check(timed(c.events), c.left)
				all := texts(r)
				if (c.want == "") != (all == "") || !strings.Contains(all, c.want) || len(r.Unknown) > 0 {
					t.Errorf("with a skew of %v: %v, unknown %v\n%s\nwant one of %q", skew, r, r.Unknown, all, c.want)
				}
				pictures, err := filepath.Glob(filepath.Join(j.Dir, "violation-*.html"))
				if err != nil || len(pictures) != len(r.Violations) {
					t.Errorf("%d violations have the pictures %v, %v", len(r.Violations), pictures, err)
				}
			}
		})
	}
}

func texts(r *linear.Result) string {
	var all []string
	for _, v := range r.Violations {
		all = append(all, v.Text)
	}
	return strings.Join(all, "\n")
}

// second is the rest of a group of two, whose first member was published as its end.
func second() []history.Event {
	u := "task=" + other
	return []history.Event{
		e(history.Pushing, u), e(history.Pushed, u), e(history.Claimed, u, "d=a.9"), e(history.Started, u, "d=a.9", "pid=7"), e(history.Ended, u, "d=a.9", "pid=7"),
		e(history.Completed, u, "text="+success), e(history.Counted, u, "text=1"), e(history.Removed, "task=", "d=a.9"),
	}
}

func both() history.Final {
	f := ended(true)
	f.Completions[group][other] = history.Completion{TaskID: other, Success: true}
	f.Counters[group] = 2
	return f
}

func addTask(j *linear.Judge, id string) {
	j.Tasks[id] = &history.Task{ID: id, Group: group, Pushes: 1}
	j.Groups[group].Expected++
}

// single takes the task out of its group.
func single(j *linear.Judge) {
	j.Tasks[task].Group = ""
	clear(j.Groups)
}

func judge(t *testing.T) *linear.Judge {
	return &linear.Judge{
		Tasks:     map[string]*history.Task{task: {ID: task, Group: group, Pushes: 1}},
		Groups:    map[string]*history.Group{group: {ID: group, Expected: 1, At: time.Unix(0, 0)}},
		Silent:    func(*history.Task) bool { return false },
		MayRepeat: func(*history.Task) bool { return false },
		Dir:       t.TempDir(),
	}
}

// timed gives each event a time, 10 ms after the last one, and removes what an observer of
// Redis does not see.
func timed(events []history.Event) []history.Event {
	events = slices.Clone(events)
	for i := range events {
		ev := &events[i]
		ev.At = int64(i+1) * int64(10*time.Millisecond)
		switch ev.What {
		case history.Removed, history.Buried, history.Unburied, history.Retired, history.Forgot, history.GivingUp, history.Kills:
			ev.Task = ""
		}
	}
	return events
}

// TestClocksThatDiffer has an end and a completion in the wrong order, by less and by more
// than the clocks may differ.
func TestClocksThatDiffer(t *testing.T) {
	events := timed(whole())
	for i := range events {
		if events[i].What == history.Ended {
			events[i].At = events[i+1].At + int64(500*time.Microsecond)
		}
	}
	for skew, want := range map[time.Duration]int{time.Millisecond: 0, 100 * time.Microsecond: 1} {
		j := judge(t)
		j.Skew = skew
		if r := j.Check(events, ended(true)); len(r.Violations) != want {
			t.Errorf("with a skew of %v: %v", skew, r.Violations)
		}
	}
}

// TestBound gives the search fewer steps than it needs. The result is neither good nor bad.
func TestBound(t *testing.T) {
	j := judge(t)
	j.Steps = 3
	r := j.Check(timed(whole()), ended(true))
	if len(r.Violations) != 0 || len(r.Unknown) != 2 || !strings.Contains(r.Unknown[0], "no result after 3 steps") {
		t.Errorf("%v, unknown %v", r, r.Unknown)
	}
}

// TestManyDeliveries gives a record more deliveries than the automaton bears.
func TestManyDeliveries(t *testing.T) {
	events := push()
	for i := range 65 {
		d := "a." + strings.Repeat("1", i+1)
		events = join(events, claim(d), back(d))
	}
	r := judge(t).Check(timed(events), empty())
	if len(r.Unknown) != 1 || !strings.Contains(r.Unknown[0], "65 deliveries") {
		t.Errorf("%v, unknown %v", r, r.Unknown)
	}
}

// TestAnswersWithoutADelivery has a program of mode exec, which does not know its delivery.
func TestAnswersWithoutADelivery(t *testing.T) {
	events := whole()
	for i := range events {
		if w := events[i].What; w == history.Started || w == history.Ended {
			events[i].Delivery = ""
		}
	}
	if r := judge(t).Check(timed(events), ended(true)); len(r.Violations) != 0 {
		t.Error(r.Violations)
	}
	again := join(events, e(history.Started, "pid=8"))
	if r := judge(t).Check(timed(again), ended(true)); len(r.Violations) != 1 || !strings.Contains(r.Violations[0].Text, "without having been claimed") {
		t.Error(r.Violations)
	}
}

// TestOneOfSeveralDeliveries has programs of mode exec and a record that was pushed twice. A
// start may be of either copy, but a completion needs an end.
func TestOneOfSeveralDeliveries(t *testing.T) {
	const first, second = "s1-x.1", "s2-x.1"
	start := func(sidecar string) history.Event { return e(history.Started, "pid=8", "text="+sidecar) }
	for _, c := range []struct {
		name   string
		events []history.Event
		want   string
	}{
		{"either", join(claim(first), claim(second), start(""), e(history.Ended, "pid=8"), report(second, success), back(first), claim("s2-x.2"), e(history.Removed, "d=s2-x.2")), ""},
		{
			"either, and then another", join(claim(first), claim(second), start(""), e(history.Ended, "pid=8"), report(second, success), back(first), claim("s2-x.2"),
				e(history.Started, "d=s2-x.2", "pid=9"), e(history.Ended, "d=s2-x.2", "pid=9"), e(history.Removed, "d=s2-x.2")),
			"",
		},
		{"without an end", join(claim(first), claim(second), start(""), report(second, success), e(history.Removed, "d="+first)), "before its worker had ended it"},
		{"of its sidecar", join(claim(first), claim(second), start("s2"), e(history.Ended, "pid=8"), report(second, success), e(history.Removed, "d="+first)), ""},
		{
			"of the other sidecar", join(claim(first), claim(second), start("s2"), e(history.Ended, "pid=8"), back(second), report(first, success), claim("s2-x.2"), e(history.Removed, "d=s2-x.2")),
			"nothing ended its worker or its run",
		},
		{
			"of a sidecar that was given up", join(claim(first), e(history.Retired, "text=s1-x"), back(first), start("s1"), e(history.Ended, "pid=8"),
				claim(second), e(history.Started, "d="+second, "pid=9"), e(history.Ended, "d="+second, "pid=9"), report(second, success), claim("s2-x.2"), e(history.Removed, "d=s2-x.2")),
			"",
		},
	} {
		j := judge(t)
		j.Tasks[task].Pushes = 2
		r := j.Check(timed(join(push(), push(), c.events)), ended(true))
		if all := texts(r); (c.want == "") != (all == "") || !strings.Contains(all, c.want) {
			t.Errorf("%s: %s\nwant %q", c.name, all, c.want)
		}
	}
}

// TestPicture writes a picture that names the operations.
func TestPicture(t *testing.T) {
	r := judge(t).Check(timed(push()), empty())
	text, err := os.ReadFile(r.Violations[0].Picture)
	if err != nil || !strings.Contains(string(text), "pushing t g") {
		t.Errorf("%v: %v, %d bytes", r.Violations, err, len(text))
	}
}

// TestEveryEventMatters removes each event of a good history, and doubles each: the judge
// finds all but those that docs/guarantees.md allows.
func TestEveryEventMatters(t *testing.T) {
	events := join(
		push(), claim("a.1"), e(history.Started, "d=a.1", "pid=7"), e(history.Retired, "text=a"), back("a.1"),
		claim("b.1"), e(history.Started, "d=b.1", "pid=8"), e(history.Kills, "pid=8"), back("b.1"),
		claim("b.2"), e(history.Buried, "d=b.2"), e(history.Completed, "text="+failure), e(history.Counted, "text=1"), e(history.Removed, "d=b.2"),
		e(history.Revoked), e(history.Counted, "text=-1"), e(history.Added), e(history.Unburied, "d=b.2"),
		claim("b.3"), run("b.3", "9"), report("b.3", success),
	)
	check := func(change []history.Event) bool {
		j := judge(t)
		return len(j.Check(timed(change), ended(true)).Violations) > 0
	}
	if check(events) {
		t.Fatal("the history is not good as it is")
	}
	// Without its acknowledgement a push may have been applied all the same, and what its
	// worker did not begin may be returned.
	free := map[string]bool{history.Pushed: true}
	unread := []int{3, 8}
	for i, ev := range events {
		if found := check(slices.Delete(slices.Clone(events), i, i+1)); found == (free[ev.What] || slices.Contains(unread, i)) {
			t.Errorf("without %q, event %d: a violation is found: %v", ev.What, i, found)
		}
	}
	// A second push may be lost, a run is retired and a worker killed once, however often that
	// is said, and a record may return to the queue from other places than a delivery.
	free = map[string]bool{
		history.Pushing: true, history.Pushed: true, history.Retired: true, history.Kills: true, history.Returned: true, history.Unburied: true,
	}
	for i, ev := range events {
		if found := check(slices.Insert(slices.Clone(events), i, ev)); found == free[ev.What] {
			t.Errorf("with a second %q, event %d: a violation is found: %v", ev.What, i, found)
		}
	}
}
