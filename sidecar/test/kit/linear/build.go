package linear

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"
)

// builder sorts a history by record and by group, and makes operations of its events.
type builder struct {
	*Judge
	events  []history.Event
	records map[string][]int // indexes of events, by task
	groups  map[string][]int
	forgot  []int
	retired map[string][]int // by run
	kills   map[int][]int    // by process
}

func newBuilder(j *Judge, events []history.Event) *builder {
	b := &builder{
		Judge: j, events: slices.Clone(events),
		records: map[string][]int{}, groups: map[string][]int{}, retired: map[string][]int{}, kills: map[int][]int{},
	}
	slices.SortStableFunc(b.events, func(x, y history.Event) int { return int(x.At - y.At) })
	owner := map[string]string{} // the task of each delivery
	for _, e := range b.events {
		if e.Delivery != "" && e.Task != "" && e.Task != unreadable {
			owner[e.Delivery] = e.Task
		}
	}
	for i := range b.events {
		e := &b.events[i]
		switch e.What {
		case history.Forgot:
			b.forgot = append(b.forgot, i)
		case history.Retired:
			b.retired[e.Text] = append(b.retired[e.Text], i)
		case history.Kills, history.Exits:
			b.kills[e.Pid] = append(b.kills[e.Pid], i)
		case history.Counted, history.Published, history.GivingUp:
			b.addToGroup(e.Group, i)
		case history.Completed, history.Revoked:
			b.addToGroup(e.Group, i)
			b.addToRecord(e.Task, i)
		case history.Removed, history.Buried, history.Unburied:
			b.addToRecord(owner[e.Delivery], i)
		case history.Pushing, history.Pushed, history.Started, history.Ended, history.Value,
			history.Returned, history.Added, history.Claimed, history.Delayed:
			b.addToRecord(e.Task, i)
		}
	}
	for id := range j.Groups {
		b.groups[id] = append(b.groups[id], nil...) // also one without an event
	}
	return b
}

// unreadable is the task id of a record that has none.
const unreadable = "?"

func (b *builder) addToRecord(task string, i int) {
	if task != "" && task != unreadable {
		b.records[task] = append(b.records[task], i)
	}
}

func (b *builder) addToGroup(group string, i int) {
	if b.Groups[group] != nil {
		b.groups[group] = append(b.groups[group], i)
	}
}

// interval returns the call and the return of an event. Without a skew the order of the
// history is the order in time, also of events at the same time.
func (b *builder) interval(i int) (from, to int64) {
	e := &b.events[i]
	switch {
	case b.Skew == 0:
		return int64(i), int64(i)
	case byRedis(e.What):
		return e.At - int64(b.Skew), e.At + int64(b.Skew)
	}
	return e.At, e.At
}

// The rows of a picture. Workers have rows of their own behind them.
const (
	redisRow = iota
	producerRow
	testRow
	workerRow
)

// partition collects the operations of one record or group.
type partition struct {
	ops     []porcupine.Operation
	places  int
	workers []int // process ids
}

func (p *partition) add(o *operation, from, to int64) {
	row := testRow
	switch {
	case byRedis(o.What) || o.What == final:
		row = redisRow
	case o.What == history.Pushing || o.What == history.GivingUp:
		row = producerRow
	case o.Pid != 0:
		at := slices.Index(p.workers, o.Pid)
		if at < 0 {
			at = len(p.workers)
			p.workers = append(p.workers, o.Pid)
		}
		row = workerRow + at
	}
	if byRedis(o.What) {
		p.places++
		o.place = p.places
	}
	p.ops = append(p.ops, porcupine.Operation{ClientId: row, Input: o, Call: from, Return: to})
}

// never is the return of an operation without one.
const never = math.MaxInt64

// recordPartition has the operations of one record.
type recordPartition struct {
	partition
	rules      recordRules
	deliveries []string
}

// record makes the operations of a task.
func (b *builder) record(task string, left history.Final) *recordPartition {
	p := &recordPartition{}
	all := b.records[task]
	t := b.Tasks[task]
	if t == nil {
		t = &history.Task{ID: task} // the test has decided about it
	}
	g := b.Groups[t.Group]
	p.rules = recordRules{
		grouped: t.Group != "", over: g == nil || g.Over, silent: b.Tasks[task] == nil || b.Silent(t), mayRepeat: b.Tasks[task] == nil || b.MayRepeat(t),
	}
	all = slices.Concat(all, b.shared(all))
	slices.Sort(all)
	pushes := pushesOf(b.events, all)
	p.rules.unpushed = !slices.ContainsFunc(all, func(i int) bool { return b.events[i].What == history.Pushing })
	names := b.deliveriesOf(all)
	bit := func(delivery string) uint64 {
		at := slices.Index(p.deliveries, delivery)
		if at < 0 {
			at = len(p.deliveries)
			p.deliveries = append(p.deliveries, delivery)
		}
		return 1 << at
	}
	for _, i := range all { // so that a retirement knows later deliveries, too
		if names[i] != "" {
			bit(names[i])
		}
	}
	for _, i := range all {
		e := b.events[i]
		o := &operation{Event: e}
		from, to := b.interval(i)
		switch e.What {
		case history.Pushed:
			continue // it ends its push
		case history.Pushing:
			if acknowledged, ok := pushes[i]; ok {
				_, to = b.interval(acknowledged)
			} else {
				o.lost, to = true, never
			}
		case history.Completed:
			var c history.Completion
			o.success = json.Unmarshal([]byte(e.Text), &c) == nil && c.Success
		case history.Retired:
			for _, name := range p.deliveries {
				if runOf(name) == e.Text {
					o.delivery |= bit(name)
				}
			}
		case history.Kills, history.Exits:
			for _, n := range all {
				if s := &b.events[n]; s.What == history.Started && s.Pid == e.Pid && s.At <= e.At+int64(killed) {
					o.delivery |= bit(names[n])
				}
			}
		}
		if names[i] != "" {
			o.delivery = bit(names[i])
		}
		p.add(o, from, to)
	}
	c, told := left.Completions[t.Group][task]
	_, result := left.Results[task]
	end := recordLeft{Told: told, Success: c.Success, Result: result, Must: b.Tasks[task] != nil && t.Pushes > 0}
	for _, l := range left.Letters {
		if l.Task == task {
			end.Letters++
		}
	}
	b.finish(&p.partition, end)
	return p
}

// killed is how long after the event of a kill, which is written before it, the worker may
// still begin a task.
const killed = time.Second

// shared returns the events that concern a record besides its own: retirements of its runs,
// kills of its workers, and what Redis forgot after its first event.
func (b *builder) shared(own []int) (all []int) {
	for _, i := range b.forgot {
		if i > own[0] {
			all = append(all, i)
		}
	}
	runs, pids := map[string]bool{}, map[int]bool{}
	for _, i := range own {
		e := &b.events[i]
		if run := runOf(e.Delivery); run != "" && !runs[run] {
			runs[run] = true
			all = append(all, b.retired[run]...)
		}
		if e.What == history.Started && !pids[e.Pid] {
			pids[e.Pid] = true
			all = append(all, b.kills[e.Pid]...)
		}
	}
	return all
}

// runOf returns the run of a delivery id, or "".
func runOf(delivery string) string {
	at := strings.LastIndexByte(delivery, '.')
	return delivery[:max(at, 0)]
}

// pushesOf returns the acknowledgement of each push that has one. A producer does not send a
// record again before the reply to the last push has come or is lost.
func pushesOf(events []history.Event, all []int) map[int]int {
	acknowledged := map[int]int{}
	open := -1
	for _, i := range all {
		switch events[i].What {
		case history.Pushing:
			open = i
		case history.Pushed:
			if open >= 0 {
				acknowledged[open] = i
			}
			open = -1 // a push without a beginning is a worker's request, which Redis shows
		}
	}
	return acknowledged
}

// deliveriesOf returns the delivery of each event that has one. Programs of mode exec do not
// know theirs: a start has the one that is in flight and has no start, in its sidecar if Text
// names that. Where there are several, the start and its end have none.
func (b *builder) deliveriesOf(all []int) map[int]string {
	names := map[int]string{}
	var waiting, past []string // deliveries without a start, in flight or not
	byPid := map[int]string{}
	for _, i := range all {
		e := &b.events[i]
		name := e.Delivery
		switch e.What {
		case history.Claimed:
			waiting = append(waiting, name)
		case history.Removed:
			if slices.Contains(waiting, name) {
				past = append(past, name)
			}
			waiting = slices.DeleteFunc(waiting, func(w string) bool { return w == name })
		case history.Started:
			if name == "" {
				name = theOnly(waiting, past, e)
			}
			waiting = slices.DeleteFunc(waiting, func(w string) bool { return w == name })
			past = slices.DeleteFunc(past, func(w string) bool { return w == name })
			byPid[e.Pid] = name
		case history.Ended:
			if name == "" {
				name = byPid[e.Pid]
			}
		}
		if name != "" {
			names[i] = name
		}
	}
	return names
}

// theOnly returns the delivery that a start must be of, "" if there are several, and a name of
// its own if there is none. A run that was given up may begin a delivery of the past.
func theOnly(waiting, past []string, start *history.Event) string {
	for _, some := range [][]string{waiting, past} {
		var mine []string
		for _, delivery := range some {
			if start.Text == "" || strings.HasPrefix(delivery, start.Text+"-") {
				mine = append(mine, delivery)
			}
		}
		switch len(mine) {
		case 0:
		case 1:
			return mine[0]
		default:
			return ""
		}
	}
	return "unknown of process " + strconv.Itoa(start.Pid)
}

// groupPartition has the operations of one group.
type groupPartition struct {
	partition
	rules       groupRules
	neverOpened bool // Redis did not take its barrier, so that no producer waits for it
}

// group makes the operations of a group.
func (b *builder) group(id string, left history.Final) *groupPartition {
	g := b.Groups[id]
	p := &groupPartition{rules: groupRules{expected: g.Expected}, neverOpened: g.Over}
	all := b.groups[id]
	for _, i := range b.forgot {
		if b.events[i].At >= g.At.UnixNano() {
			all = append(all, i)
		}
	}
	slices.Sort(all)
	members := map[string]int{}
	for task, t := range b.Tasks {
		if t.Group == id {
			members[task] = -1
			if t.Pushes > 0 {
				p.rules.members++
			}
		}
	}
	known := 0
	for _, i := range all {
		e := b.events[i]
		o := &operation{Event: e}
		from, to := b.interval(i)
		switch e.What {
		case history.Completed, history.Revoked:
			n, ok := members[e.Task]
			if ok && n < 0 && known < setSize {
				n, members[e.Task] = known, known
				known++
			}
			if o.number = n; !ok {
				o.number = -1
			}
		case history.Counted:
			o.number, _ = strconv.Atoi(e.Text)
		case history.GivingUp:
			to = never
			p.neverOpened = false
		case history.Forgot:
			p.neverOpened = false
		}
		p.add(o, from, to)
	}
	b.finish(&p.partition, groupLeft{Counter: left.Counters[id], Completions: len(left.Completions[id])})
	return p
}

// finish adds the look at what Redis holds at the end, which is behind everything.
func (b *builder) finish(p *partition, left any) {
	at := int64(len(b.events))
	if b.Skew > 0 {
		at = 0
		for _, o := range p.ops {
			if o.Return != never {
				at = max(at, o.Return)
			}
			at = max(at, o.Call)
		}
		at++
	}
	p.add(&operation{Event: history.Event{What: final}, expected: left}, at, at)
}
