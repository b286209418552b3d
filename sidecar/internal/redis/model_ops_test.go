package redis

import (
	"math"
	"slices"
	"strings"
	"time"
)

func (m *model) release() {
	run := m.any()
	picked := m.some(run)
	rel := back(picked...)
	for i, c := range picked {
		if m.rnd.IntN(2) == 0 {
			rel[i] = lost(c, m.rnd.IntN(2) == 0, modelAttempts)
		}
	}
	released, err := m.e.Release(m.e.ctx, run, rel)
	m.fail(err)
	if m.rnd.IntN(3) == 0 { // the reply was lost and the call repeated
		again, err := m.e.Release(m.e.ctx, run, rel)
		m.fail(err)
		for i := range again {
			same(m.t, "a repeated release", again[i].NotInFlight, !released[i].Exhausted)
		}
	}
	for i, c := range picked {
		record := string(c.Record)
		m.note("release %s by %s: %+v: %+v", record, run, rel[i], released[i])
		want := Released{}
		if rel[i].Lost {
			want.Exhausted = m.recordLoss(record, rel[i].Shared)
			want.Losses = m.losses[record]
		}
		same(m.t, "release of "+record, released[i], want)
		if released[i].Exhausted {
			c.Losses = released[i].Losses
			m.inFlight[run][c.Delivery] = c // to be reported as dead later
		} else {
			delete(m.inFlight[run], c.Delivery)
		}
	}
}

func (m *model) delay() {
	run := m.any()
	picked := m.some(run)
	delays := make([]Delay, len(picked))
	for i, c := range picked {
		how := m.rnd.IntN(4)
		delays[i] = Delay{Delivery: c.Delivery, After: time.Hour, Record: c.Record, Count: how == 0, Isolate: how > 0 && c.Losses > 0}
	}
	done, err := m.e.Delay(m.e.ctx, run, delays)
	m.fail(err)
	for i, c := range picked {
		m.note("delay %s by %s: %t", c.Record, run, done[i])
		same(m.t, "delayed", done[i], true)
		if delays[i].Count {
			m.losses[string(c.Record)]++
		}
		delete(m.inFlight[run], c.Delivery)
	}
}

// isolate does what an idle run does: it takes an isolated record, whose reply may be
// lost, and claims, unless it dies or does something else before that.
func (m *model) isolate() {
	if m.rnd.IntN(2) == 0 {
		m.delay()
	}
	run, nonce := m.any(), NewRunID("n")
	before := m.e.list(m.e.keys.inbox(run))
	for range 1 + m.rnd.IntN(2) {
		_, err := m.e.TakeIsolated(m.e.ctx, run, nonce, KindDemand{})
		m.fail(err)
	}
	inbox := m.e.list(m.e.keys.inbox(run))
	m.note("isolate by %s: %q and then %q", run, before, inbox)
	if len(inbox) > max(len(before), 1) {
		m.t.Errorf("%d records in an inbox of %d", len(inbox), len(before))
	}
	if m.rnd.IntN(3) == 0 {
		return
	}
	got, err := m.e.Claim(m.e.ctx, run, nonce, 1)
	m.fail(err)
	if len(inbox) > 0 {
		same(m.t, "claimed", records(got), inbox[:1])
	}
	took, err := m.e.TakeIsolated(m.e.ctx, run, nonce, KindDemand{}) // the network delivers it late
	m.fail(err)
	same(m.t, "taken after the claim", took, len(inbox) > 1)
	for _, c := range got {
		m.inFlight[run][c.Delivery] = c
	}
}

func (m *model) tick() {
	if m.rnd.IntN(2) == 0 {
		m.later()
	}
	run := m.any()
	got, err := m.e.Tick(m.e.ctx, run, nil, "")
	m.fail(err)
	m.note("tick by %s: %+v", run, got)
	for _, dead := range got.Unfinished {
		m.reap(run, dead, 1000)
	}
}

// die ends a run at any point; a reaper may die when some chunks are done.
func (m *model) die() {
	run := m.any()
	m.bury(run)
	self := m.any()
	m.e.expire(run)
	m.shared[run] = len(m.e.hash(m.e.keys.inflight(run))) > 1
	if _, err := m.e.retire(m.e.ctx, self, run, "dead"); err != nil {
		m.fail(err)
	}
	m.note("%s dies, %s reaps", run, self)
	m.reap(self, run, m.rnd.IntN(4))
}

// bury kills the process of a run, which may still report, and starts another.
func (m *model) bury(run string) {
	for _, d := range sortedKeys(m.inFlight[run]) {
		m.zombies[run] = append(m.zombies[run], m.inFlight[run][d])
	}
	delete(m.inFlight, run)
	m.runs = slices.DeleteFunc(m.runs, func(r string) bool { return r == run })
	m.join()
}

func (m *model) reap(self, dead string, chunks int) {
	for range chunks {
		before := m.places()
		got, done, err := m.e.reapChunk(m.e.ctx, self, dead, modelAttempts)
		m.fail(err)
		after := m.places()
		adopted := make(map[string]bool)
		for _, a := range got.Exhausted {
			adopted[string(a.Record)] = true
			m.inFlight[self][a.Delivery] = Claimed{Delivery: a.Delivery, Seq: a.Seq, Record: a.Record, Losses: a.Losses}
		}
		for _, record := range m.pushed {
			place := "inflight:" + dead
			if slices.Contains(before[record], place) && !slices.Contains(after[record], place) {
				if _, clean := m.shared[dead]; !clean {
					continue // the run had left: no attempt used
				}
				same(m.t, "adopted "+record, adopted[record], m.recordLoss(record, m.shared[dead]))
			}
		}
		m.note("%s reaps a chunk of %s: %d back, %d adopted, done %t", self, dead, got.Returned, len(got.Exhausted), done)
		if done {
			return
		}
	}
}

// leave ends a run by Leave, sometimes only half.
func (m *model) leave() {
	run := m.any()
	m.bury(run)
	m.note("%s leaves", run)
	if m.rnd.IntN(3) == 0 {
		if _, err := m.e.retire(m.e.ctx, run, run, "clean"); err != nil {
			m.fail(err)
		}
		return
	}
	m.fail(m.e.Leave(m.e.ctx, run))
	if left := m.e.keysUnder("*" + run + "*"); slices.ContainsFunc(left, func(k string) bool { return !strings.Contains(k, ":dead:") }) {
		m.t.Errorf("keys of a run that left: %v", left)
	}
}

// reconcile forgets some of the deliveries of a run, and claims that the run never
// received.
func (m *model) reconcile() {
	run := m.any()
	for _, c := range m.some(run) {
		delete(m.inFlight[run], c.Delivery)
	}
	n, err := m.e.Reconcile(m.e.ctx, run, math.MaxInt64, sortedKeys(m.inFlight[run]))
	m.fail(err)
	m.note("reconcile by %s: %d back", run, n)
	same(m.t, "in flight", len(m.e.hash(m.e.keys.inflight(run))), len(m.inFlight[run]))
}

// zombie reports the deliveries of a dead run: a report counts if the record was not
// returned yet, and is stale otherwise.
func (m *model) zombie() {
	for _, run := range sortedKeys(m.zombies) {
		if m.rnd.IntN(3) == 0 {
			m.end(run, m.zombies[run], nil)
			delete(m.zombies, run)
		}
	}
}

// finish makes one run do all remaining work.
func (m *model) finish() {
	m.later()
	for range 12 {
		m.tick()
		m.check()
	}
	for len(m.runs) > 1 {
		run := m.runs[0]
		m.runs = m.runs[1:]
		m.fail(m.e.Leave(m.e.ctx, run))
	}
	last := m.runs[0]
	for range len(m.pushed) + 1 {
		m.later()
		m.tick()
		claimed := m.e.claim(last, 50)
		for _, c := range claimed {
			m.inFlight[last][c.Delivery] = c
		}
		m.end(last, claimed, m.inFlight[last])
	}
	if _, err := m.e.Reconcile(m.e.ctx, last, math.MaxInt64, nil); err != nil {
		m.fail(err)
	}
	for claimed := m.e.claim(last, 1000); len(claimed) > 0; claimed = m.e.claim(last, 1000) {
		m.end(last, claimed, map[string]Claimed{})
	}
	m.check()
	for _, record := range m.pushed {
		if m.ended[record] == "" {
			m.t.Errorf("%s never ended: in %v", record, m.places()[record])
		}
	}
	if m.t.Failed() {
		m.t.Logf("operations:\n%s", strings.Join(m.log, "\n"))
	}
}

// recordLoss is the rule for attempts, written independently of the scripts.
func (m *model) recordLoss(record string, shared bool) (exhausted bool) {
	n := m.losses[record] + 1
	if shared && n >= modelAttempts && m.losses[record] < modelAttempts {
		n = modelAttempts - 1
	}
	m.losses[record] = min(n, modelAttempts)
	return n >= modelAttempts
}

// later makes all delayed records due.
func (m *model) later() { m.e.later(2 * time.Hour) }
