package redis

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestModel makes random operations for several runs, with lost replies, repeated
// calls, deaths, reapers that die and dead runs that report. After each operation it
// searches for every record that was ever pushed: the record must be in exactly one
// place in Redis or have ended exactly once.
func TestModel(t *testing.T) {
	const seeds, ops = 12, 120
	for i := range seeds {
		seed := uint64(i + 1)
		o := Options{MaxClaimBytes: 60, QueueRight: i%2 == 1} // a chunk has a few records
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			if i < 2 {
				both(t, o, func(t *testing.T, e *env) { newModel(t, e, seed).play(ops) })
				return
			}
			newModel(t, onRedis(t, o), seed).play(ops)
		})
	}
}

const (
	modelGroups   = 3
	modelAttempts = 3
)

type model struct {
	t   *testing.T
	e   *env
	rnd *rand.Rand

	runs     []string                      // members, by their own knowledge
	inFlight map[string]map[string]Claimed // run → delivery → claimed record
	zombies  map[string][]Claimed          // dead run → its deliveries in flight
	shared   map[string]bool               // dead run → it had several in flight
	losses   map[string]int                // record → attempts used up
	ended    map[string]Verdict            // record → its verdict
	counted  [modelGroups]map[string]bool  // task → its group counted it
	pushed   []string
	log      []string
}

func newModel(t *testing.T, e *env, seed uint64) *model {
	m := &model{
		t: t, e: e, rnd: rand.New(rand.NewPCG(seed, 1)),
		inFlight: make(map[string]map[string]Claimed), zombies: make(map[string][]Claimed),
		shared: make(map[string]bool), losses: make(map[string]int), ended: make(map[string]Verdict),
	}
	for g := range m.counted {
		m.counted[g] = make(map[string]bool)
		e.barrier(fmt.Sprint("g", g), 1_000_000)
	}
	for range 3 {
		m.join()
	}
	return m
}

func (m *model) play(ops int) {
	choices := []func(){
		m.push, m.push, m.claim, m.claim, m.claim, m.arrive, m.report, m.report, m.release, m.delay, m.isolate,
		m.tick, m.die, m.leave, m.reconcile, m.zombie,
	}
	for range ops {
		choices[m.rnd.IntN(len(choices))]()
		m.check()
		if m.t.Failed() {
			m.t.Fatalf("operations so far:\n%s", strings.Join(m.log, "\n"))
		}
	}
	m.finish()
}

func (m *model) note(format string, args ...any) { m.log = append(m.log, fmt.Sprintf(format, args...)) }

func (m *model) join() {
	run := m.e.run("m")
	m.runs = append(m.runs, run)
	m.inFlight[run] = make(map[string]Claimed)
}

func (m *model) any() string { return m.runs[m.rnd.IntN(len(m.runs))] }

// some returns about half of the deliveries that a run has in flight.
func (m *model) some(run string) []Claimed {
	var picked []Claimed
	for _, d := range sortedKeys(m.inFlight[run]) {
		if m.rnd.IntN(2) == 0 {
			picked = append(picked, m.inFlight[run][d])
		}
	}
	m.rnd.Shuffle(len(picked), func(i, j int) { picked[i], picked[j] = picked[j], picked[i] })
	return picked
}

func sortedKeys[V any](m map[string]V) []string {
	var all []string
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

// A record is "number/copy": copies are the same task dispatched once but
// delivered twice. Its group, if any, follows from the number.
func (m *model) push() {
	for range 1 + m.rnd.IntN(4) {
		n := len(m.pushed)
		for c := range 1 + m.rnd.IntN(5)/4 {
			r := fmt.Sprintf("%05d/%d", n, c)
			m.pushed = append(m.pushed, r)
			m.e.push(r)
		}
	}
	m.note("push: %d by now", len(m.pushed))
}

func taskOf(record string) (task string, group int, ok bool) {
	task, _, _ = strings.Cut(record, "/")
	n := 0
	_, _ = fmt.Sscan(strings.TrimLeft(task, "0")+" ", &n)
	return task, n % (modelGroups + 1), n%(modelGroups+1) < modelGroups
}

func (m *model) claim() {
	run, nonce, max := m.any(), NewRunID("n"), 1+m.rnd.IntN(5)
	claimed, err := m.e.Claim(m.e.ctx, run, nonce, max)
	m.fail(err)
	switch m.rnd.IntN(4) {
	case 0: // the reply was lost and the call repeated
		again, err := m.e.Claim(m.e.ctx, run, nonce, max)
		m.fail(err)
		if len(claimed) > 0 {
			same(m.t, "the same claim", again, claimed)
		}
		claimed = again
	case 1: // the reply was lost and the call not repeated
		m.note("claim by %s: lost %q", run, records(claimed))
		return
	}
	m.note("claim by %s: %q", run, records(claimed))
	for _, c := range claimed {
		if got := m.losses[string(c.Record)]; c.Losses != got {
			m.t.Errorf("%s: %d losses, want %d", c.Record, c.Losses, got)
		}
		m.inFlight[run][c.Delivery] = c
	}
}

// arrive makes a BLMOVE whose reply is lost.
func (m *model) arrive() {
	run, from := m.any(), "LEFT"
	if m.e.o.QueueRight {
		from = "RIGHT"
	}
	m.note("arrive at %s", run)
	m.e.c.LMove(m.e.ctx, m.e.keys.queue(), m.e.keys.inbox(run), from, "RIGHT")
}

func (m *model) reportOf(c Claimed) Report {
	task, group, ok := taskOf(string(c.Record))
	r := Report{Delivery: c.Delivery, TaskID: task, CreatedAt: "1", Success: true, RecordSHA: RecordSHA(c.Record)}
	if ok {
		r.GroupID = fmt.Sprint("g", group)
	}
	if c.Losses >= modelAttempts || m.rnd.IntN(8) == 0 {
		r.Dead = &DeadLetter{Attempts: c.Losses}
	}
	return r
}

func (m *model) report() {
	run := m.any()
	m.end(run, m.some(run), m.inFlight[run])
}

// end reports deliveries; known are those that must count.
func (m *model) end(run string, picked []Claimed, known map[string]Claimed) {
	batch := make([]Report, len(picked))
	for i, c := range picked {
		batch[i] = m.reportOf(c)
	}
	verdicts, err := m.e.Report(m.e.ctx, run, batch)
	m.fail(err)
	for i, c := range picked {
		record := string(c.Record)
		m.note("report %s by %s: %s", record, run, verdicts[i])
		_, sure := known[c.Delivery]
		delete(known, c.Delivery)
		if verdicts[i] == NotInFlight || verdicts[i] == Stale {
			if sure {
				m.t.Errorf("%s was late", record)
			}
			continue
		}
		if before, twice := m.ended[record]; twice {
			m.t.Errorf("%s ended as %s and again as %s", record, before, verdicts[i])
		}
		m.ended[record] = verdicts[i]
		delete(m.losses, record)
		m.expect(record, batch[i].Dead != nil, verdicts[i])
	}
	if len(batch) > 0 && m.rnd.IntN(3) == 0 { // the reply was lost and the call repeated
		again, err := m.e.Report(m.e.ctx, run, batch)
		m.fail(err)
		for _, v := range again {
			if v != NotInFlight && v != Stale {
				m.t.Errorf("verdict of a repeated report: %s", v)
			}
		}
	}
}

func (m *model) expect(record string, dead bool, got Verdict) {
	task, group, grouped := taskOf(record)
	want := CompletedNoGroup
	if grouped {
		want = Completed
		if m.counted[group][task] {
			want = Duplicate
		}
		m.counted[group][task] = true
	}
	if dead {
		want = Dead
	}
	same(m.t, "verdict of "+record, got, want)
}

func (m *model) fail(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatalf("%v after\n%s", err, strings.Join(m.log, "\n"))
	}
}

// check searches for every record.
func (m *model) check() {
	m.t.Helper()
	places := m.places()
	for _, record := range m.pushed {
		where := places[record]
		verdict, over := m.ended[record]
		switch {
		case over && verdict == Dead:
			if len(where) != 1 || where[0] != "dead" {
				m.t.Errorf("%s is dead, but in %v", record, where)
			}
		case over && len(where) > 0:
			m.t.Errorf("%s ended as %s, but is in %v", record, verdict, where)
		case !over && (len(where) != 1 || where[0] == "dead"):
			m.t.Errorf("%s has not ended, but is in %v", record, where)
		}
	}
	for _, delivery := range m.e.c.ZRange(m.e.ctx, m.e.keys.own("isolated"), 0, -1).Val() {
		if !m.e.c.HExists(m.e.ctx, m.e.keys.own("delayed:records"), delivery).Val() {
			m.t.Errorf("%s is isolated, and not delayed", delivery)
		}
	}
	for g := range m.counted {
		if got := m.e.counter(fmt.Sprint("g", g)); got != "" || len(m.counted[g]) > 0 {
			same(m.t, "counter", got, len(m.counted[g]))
		}
	}
}

// places returns where in Redis each record is.
func (m *model) places() map[string][]string {
	found := make(map[string][]string)
	add := func(where string, list []string) {
		for _, r := range list {
			found[r] = append(found[r], where)
		}
	}
	add("queue", m.e.queue())
	for _, key := range m.e.keysUnder(":sidecar:*") {
		name := strings.TrimPrefix(key, m.e.o.Prefix+":sidecar:")
		switch kind, _, _ := strings.Cut(name, ":"); {
		case kind == "inbox":
			add(name, m.e.c.LRange(m.e.ctx, key, 0, -1).Val())
		case kind == "unrouted":
			list, _ := m.e.unrouted()
			add(name, list)
		case kind == "inflight", name == "delayed:records":
			add(name, m.e.c.HVals(m.e.ctx, key).Val())
		case kind == "dead" && name != "dead":
			add("dead", []string{m.e.c.HGet(m.e.ctx, key, "raw").Val()})
		}
	}
	return found
}
