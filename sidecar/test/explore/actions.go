package explore

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redismodel"
)

// kind is the kind of an action.
type kind uint8

const (
	register kind = iota
	claim
	receive // the reply to a claim arrives
	outcome // the call that a sidecar makes for a delivery
	tick
	suspect // a tick has found a run without a lease
	reap
	reconcile
	pass
	expire
	die
	leave
	flush
	step
	requeue
	drop
	arrive
	arriveLate // the network delivers a call of a sidecar that no longer waits for it
)

// how is what happens to a call.
type how uint8

const (
	answered how = iota
	replyLost
	sentLate
	answeredLate
)

// action is one step of a world. n is the index of a delivery, a run, a letter or a
// message; what is decided for a delivery that is undecided.
type action struct {
	kind kind
	who  uint8
	n    uint8
	what doing
	how  how
}

// engine makes the steps of worlds. Each worker of a search has one.
type engine struct {
	scope Scope
	calls calls
	db    *redismodel.DB
	clock int64
}

func newEngine(scope Scope, sources map[string]string) (*engine, error) {
	e := &engine{scope: scope}
	e.db = redismodel.New(func() time.Time { return time.UnixMilli(e.clock) })
	e.calls = calls{shas: make(map[string]string), lease: 48 * 3600_000, attempts: scope.Attempts} // a lease ends by a step
	for name, source := range sources {
		sha, err := e.db.LoadScript(source)
		if err != nil {
			return nil, fmt.Errorf("%s.lua: %w", name, err)
		}
		e.calls.shas[name] = sha
	}
	return e, nil
}

// noon is the time at which a path begins. A minute or two before and after is the same day, by
// which the counted tasks are stored.
const noon = 1_790_000_000_000 - 1_790_000_000_000%86_400_000 + 43_200_000

// start returns the world in which a search begins: the records are in the queue, and no
// sidecar has registered.
func (e *engine) start() *world {
	w := &world{clock: noon, steady: noon}
	e.clock = w.clock
	e.db.Do("FLUSHALL")
	e.produce()
	for i := range e.scope.Sidecars {
		w.sidecars = append(w.sidecars, sidecar{slot: uint8(i)})
	}
	w.redis = e.db.Snapshot()
	return w
}

// produce opens the barrier and pushes the records, as a producer does.
func (e *engine) produce() {
	e.db.Do("DEL", prefix+":barrier:"+group)
	e.db.Do("SET", prefix+":barrier:"+group+":expected", fmt.Sprint(e.scope.Records))
	for n := range e.scope.Records {
		e.db.Do("RPUSH", prefix+":queue", record(uint8(n)))
	}
}

// actions returns everything that can happen in a world, first what happens without a
// fault: all actions before index good.
func (e *engine) actions(w *world, v *view) (all []action, good int) {
	var faulty []action
	has := func(f Fault) bool { return w.used[f] < e.scope.Budget[f] }
	call := func(a action, faultless bool) {
		if faultless {
			all = append(all, a)
		} else {
			faulty = append(faulty, a)
		}
		if has(LostReply) {
			a.how = replyLost
			faulty = append(faulty, a)
		}
		if has(Late) && a.kind != reap && a.kind != register {
			a.how = sentLate
			faulty = append(faulty, a)
		}
	}
	for i := range w.sidecars {
		s, who := &w.sidecars[i], uint8(i)
		if s.leaving {
			all = append(all, action{kind: reap, who: who})
			continue
		}
		if s.run == "" {
			call(action{kind: register, who: who}, true)
			continue
		}
		if s.waiting {
			all = append(all, action{kind: receive, who: who})
		} else {
			call(action{kind: claim, who: who}, true)
			if has(LateReply) {
				faulty = append(faulty, action{kind: claim, who: who, how: answeredLate})
			}
		}
		for n := range s.has {
			d := &s.has[n]
			a := action{kind: outcome, who: who, n: uint8(n), what: d.doing}
			switch {
			case d.doing != undecided:
				call(a, true)
				continue
			case int(d.losses) >= e.scope.Attempts:
				a.what = failing
				call(a, true)
				continue
			}
			a.what = reporting
			call(a, true)
			for what, f := range map[doing]Fault{failing: DeadEnd, losing: Loss, returning: Return, deferring: Deferral} {
				if a.what = what; has(f) {
					call(a, false)
				}
			}
		}
		if s.reaping != "" {
			call(action{kind: reap, who: who}, true)
		} else {
			all = append(all, action{kind: tick, who: who})
			for n, run := range v.members {
				if !e.scope.Counted && run != s.run && !v.isAlive(run) {
					all = append(all, action{kind: suspect, who: who, n: uint8(n)})
				}
			}
		}
		for _, f := range v.inFlight[s.run] {
			if s.find(f.seq) < 0 {
				all = append(all, action{kind: reconcile, who: who})
				break
			}
		}
		if v.queue > 0 && has(Arrival) {
			faulty = append(faulty, action{kind: arrive, who: who})
			if has(Late) {
				faulty = append(faulty, action{kind: arrive, who: who, how: sentLate})
			}
		}
		if has(Death) {
			faulty = append(faulty, action{kind: die, who: who})
		}
		if has(Leaving) {
			faulty = append(faulty, action{kind: leave, who: who})
		}
	}
	all = append(all, action{kind: pass})
	for n, run := range v.alive {
		if a := (action{kind: expire, n: uint8(n)}); slices.Contains(w.orphans, run) {
			all = append(all, a)
		} else if has(Expiry) {
			faulty = append(faulty, a)
		}
	}
	for n := range w.late {
		all = append(all, action{kind: arriveLate, n: uint8(n)})
	}
	if has(Flush) {
		faulty = append(faulty, action{kind: flush})
	}
	if has(Step) {
		faulty = append(faulty, action{kind: step, n: 0}, action{kind: step, n: 1})
	}
	for n := range v.letters {
		if has(Requeue) {
			call(action{kind: requeue, n: uint8(n)}, false)
		}
		if has(Drop) {
			faulty = append(faulty, action{kind: drop, n: uint8(n)})
		}
	}
	slices.SortFunc(faulty, compareActions) // of a map's order
	return append(all, faulty...), len(all)
}

func compareActions(a, b action) int {
	key := func(a action) int {
		return int(a.kind)<<24 | int(a.who)<<20 | int(a.n)<<12 | int(a.what)<<4 | int(a.how)
	}
	return key(a) - key(b)
}

// move is a step that was made.
type move struct {
	after  *world
	view   *view
	text   string   // the step in words
	caller string   // the run that called a script; "" if none did
	script string   // the script
	reply  string   // its reply
	lost   bool     // the caller did not see it
	ends   []string // verdicts of a report
	wrong  string   // what is wrong with the reply
}

// run makes a step.
func (e *engine) run(before *world, v *view, a action) *move {
	w := before.clone()
	m := &move{after: w}
	e.clock = w.clock
	e.db.Restore(w.redis)
	var s *sidecar
	if int(a.who) < len(w.sidecars) {
		s = &w.sidecars[a.who]
	}
	switch a.how {
	case replyLost:
		w.used[LostReply]++
	case sentLate:
		w.used[Late]++
	case answeredLate:
		w.used[LateReply]++
	case answered:
	}
	switch a.kind {
	case register:
		e.register(m, s, a)
	case claim:
		e.claim(m, s, a)
	case receive:
		m.text = s.run + ": the reply to the claim arrives"
		s.receive()
	case outcome:
		e.outcome(m, s, a)
	case tick:
		e.tick(m, s)
	case suspect:
		s.reaping = v.members[a.n]
		m.text = s.run + " has found " + s.reaping + " without a lease"
	case reap:
		e.reap(m, s, a)
	case reconcile:
		known := make([]string, len(s.has))
		for i, d := range s.has {
			known[i] = id(s.run, d.seq)
		}
		e.isGone(s, e.script(m, s.run, a, "reconcile", e.calls.reconcile(s.run, s.floor, known)))
	case pass:
		by := int64(2000)
		if e.scope.Counted {
			by = 600 // above the minimum interval of two looks, and below the maximum
		}
		w.clock, w.steady = w.clock+by, w.steady+by
		m.text = fmt.Sprintf("%d ms pass", by)
	case expire:
		run := v.alive[a.n]
		if !slices.Contains(w.orphans, run) {
			w.used[Expiry]++
		}
		e.db.Do("DEL", alive(run))
		m.text = "the lease of " + run + " expires"
	case die:
		w.used[Death]++
		m.text = s.run + " dies"
		e.replace(w, s)
	case leave:
		w.used[Leaving]++
		e.script(m, s.run, a, "leave", e.calls.retire(s.run, s.run, "clean"))
		s.leaving, s.has, s.claiming, s.reply, s.waiting, s.reaping, s.retired = true, nil, false, nil, false, "", false
	case flush:
		e.flush(m)
	case step:
		w.used[Step]++
		by := int64(90_000) // longer than what tick.lua takes for a step ahead
		if a.n == 1 {
			by = -by
		}
		w.clock += by
		m.text = fmt.Sprintf("the clock steps by %d s", by/1000)
	case requeue:
		w.used[Requeue]++
		e.operator(m, v.letters[a.n], "requeue", e.calls.requeue(v.letters[a.n]), a)
	case drop:
		w.used[Drop]++
		e.operator(m, v.letters[a.n], "drop", e.calls.drop(v.letters[a.n]), a)
	case arrive:
		w.used[Arrival]++
		args := []string{"lmove", prefix + ":queue", inbox(s.run), "LEFT", "RIGHT"}
		e.script(m, s.run, a, "blmove", args)
	case arriveLate:
		late := w.late[a.n]
		w.late = slices.Delete(w.late, int(a.n), int(a.n)+1)
		e.script(m, late.run, action{how: replyLost}, "late: "+late.text, late.args)
	}
	w.redis = e.db.Snapshot()
	m.view = look(w)
	w.absences.update(w.steady, m.view)
	w.forgetOrphans(m.view)
	return m
}

// script runs a script, unless it is late. The reply is an error without text for a caller
// that does not see it.
func (e *engine) script(m *move, run string, a action, text string, args []string) redismodel.Reply {
	m.caller, m.script = run, strings.TrimPrefix(text, "late: ")
	m.script, _, _ = strings.Cut(m.script, " ")
	by := run
	if by == "" {
		by = "operator"
	}
	if a.how == sentLate {
		m.after.late = append(m.after.late, message{text, args, run})
		m.text = by + ": " + text + ", which is delayed by the network"
		return redismodel.Reply{Kind: redismodel.Error}
	}
	r := e.db.Do(args...)
	m.reply = r.String()
	m.text = by + ": " + text + " → " + m.reply
	if m.script == "report" {
		m.ends = strings.Fields(r.Text)
	}
	if a.how == replyLost {
		m.lost = true
		if !strings.HasPrefix(text, "late: ") {
			m.text += " (reply lost)"
		}
		return redismodel.Reply{Kind: redismodel.Error}
	}
	return r
}

// isGone reports whether the caller did not see the reply, or saw that its run is gone and
// starts over.
func (e *engine) isGone(s *sidecar, r redismodel.Reply) bool {
	if strings.HasPrefix(r.Err(), "GONE ") {
		s.fenced()
	}
	return r.Kind == redismodel.Error
}

func (e *engine) register(m *move, s *sidecar, a action) {
	attempted := ""
	if len(s.former) > 0 {
		attempted = s.former[len(s.former)-1]
	}
	if attempted == "" || !s.claiming { // claiming: the registration of this run was sent before
		attempted = s.newRun()
		s.former = append(s.former[max(0, len(s.former)-8):], attempted)
	}
	r := e.script(m, attempted, a, "register", e.calls.register(attempted, s.former))
	s.claiming = r.Kind == redismodel.Error
	if !s.claiming {
		s.run = attempted
	}
}

func (e *engine) claim(m *move, s *sidecar, a action) {
	if !s.claiming {
		s.turn++
	}
	r := e.script(m, s.run, a, fmt.Sprint("claim turn ", s.turn), e.calls.claim(s.run, s.turn, e.scope.Batch, s.floor))
	s.claiming = true
	if e.isGone(s, r) {
		return
	}
	s.claiming = false
	first, records, used := r.Array[0].Int, r.Array[1].Array, r.Array[2].Array
	got := make([]delivery, len(records))
	for i, text := range records {
		n, _ := recordOf(text.Text)
		got[i] = delivery{seq: first + int64(i), record: n}
	}
	for i := 0; i+2 < len(used); i += 3 {
		got[used[i].Int-1].losses = uint8(used[i+1].Int)
	}
	for i, d := range got {
		if records[i].Kind == redismodel.Bulk {
			s.reply = append(s.reply, d)
		}
	}
	if s.waiting = a.how == answeredLate; !s.waiting {
		s.receive()
	}
}

// receive takes what a claim has brought.
func (s *sidecar) receive() {
	for _, d := range s.reply {
		s.floor = max(s.floor, d.seq)
		s.take(d)
	}
	s.reply, s.waiting = nil, false
}

func (e *engine) outcome(m *move, s *sidecar, a action) {
	d := &s.has[a.n]
	if d.doing == undecided {
		if f, ok := map[doing]Fault{failing: DeadEnd, losing: Loss, returning: Return, deferring: Deferral}[a.what]; ok && int(d.losses) < e.scope.Attempts {
			m.after.used[f]++
		}
		d.doing = a.what
	}
	seq := d.seq
	name := id(s.run, seq) + " (" + task(d.record) + ")"
	switch d.doing {
	case reporting:
		r := e.script(m, s.run, a, "report "+name+" succeeded", e.calls.report(s.run, seq, d.record, completion(d.record, true, ""), nil))
		if !e.isGone(s, r) {
			s.forget(seq)
		}
	case failing:
		dead := &letter{reason: "failed", losses: int(d.losses), time: "2026-01-01T00:00:00Z", at: "1767225600000"}
		r := e.script(m, s.run, a, "report "+name+" dead", e.calls.report(s.run, seq, d.record, completion(d.record, false, ""), dead))
		if !e.isGone(s, r) {
			s.forget(seq)
		}
	case losing:
		sharing := ""
		if len(s.has) > 1 {
			sharing = "child"
		}
		r := e.script(m, s.run, a, "release "+name+" lost "+sharing, e.calls.release(s.run, seq, d.record, "lost", sharing))
		if e.isGone(s, r) {
			return
		}
		if r.Array[0].Text == "exhausted" {
			d.losses, d.doing = uint8(r.Array[1].Int), undecided
			return
		}
		s.forget(seq)
	case returning:
		if r := e.script(m, s.run, a, "release "+name, e.calls.release(s.run, seq, d.record, "", "")); !e.isGone(s, r) {
			s.forget(seq)
		}
	case deferring:
		if r := e.script(m, s.run, a, "delay "+name, e.calls.delay(s.run, seq, d.record, 1000)); !e.isGone(s, r) {
			s.forget(seq)
		}
	case undecided:
	}
}

func (e *engine) tick(m *move, s *sidecar) {
	w := m.after
	clock, since := "", "0"
	if s.ticked {
		// The sidecar's own clock is steady; its last tick was at the time by Redis' clock
		// that tickOffset says, as if it had been now.
		clock, since = number(w.steady+s.tickOffset), "0"
	}
	r := e.script(m, s.run, action{}, "tick", e.calls.tick(s.run, clock, since))
	if e.isGone(s, r) {
		return
	}
	s.ticked, s.tickOffset = true, w.clock-w.steady
	if e.scope.Counted {
		var dead []string
		for _, run := range r.Array[2].Array {
			dead = append(dead, run.Text)
		}
		m.wrong = w.absences.look(w.steady, dead)
	}
	for _, list := range []redismodel.Reply{r.Array[3], r.Array[2]} {
		if len(list.Array) > 0 && s.reaping == "" {
			s.reaping = list.Array[0].Text
		}
	}
}

// reap ends a run and requeues a chunk, as Store.Reap and Store.Leave do; the call of
// retire is a step of its own.
func (e *engine) reap(m *move, s *sidecar, a action) {
	victim, attempts := s.reaping, e.scope.Attempts
	if s.leaving {
		victim, attempts = s.run, 1
	}
	if !s.leaving && !s.retired {
		r := e.script(m, s.run, a, "retire "+victim, e.calls.retire(s.run, victim, "dead"))
		if s.retired = !e.isGone(s, r) && r.Int == 1; !s.retired {
			s.reaping = ""
		}
		return
	}
	r := e.script(m, s.run, a, "reap "+victim, e.calls.reap(s.run, victim, attempts, s.adoptedFloor))
	if s.leaving {
		if r.Kind == redismodel.Error || r.Array[0].Int == 1 {
			e.replace(m.after, s)
		}
		return
	}
	if e.isGone(s, r) {
		s.reaping, s.retired = "", false
		return
	}
	for i := 2; i+2 < len(r.Array); i += 3 {
		n, _ := recordOf(r.Array[i+1].Array[1].Text)
		seq := r.Array[i].Int
		s.take(delivery{seq: seq, record: n, losses: uint8(r.Array[i+2].Int)})
		s.adoptedFloor = max(s.adoptedFloor, seq)
	}
	if r.Array[0].Int == 1 {
		s.reaping, s.retired = "", false
	}
}

// replace puts a new process in the place of one that has ended.
func (e *engine) replace(w *world, s *sidecar) {
	w.orphans = append(w.orphans, s.former...)
	*s = sidecar{slot: s.slot, generation: s.generation}
}

func (e *engine) flush(m *move) {
	w := m.after
	w.used[Flush]++
	e.db.Do("FLUSHALL")
	e.produce()
	w.ended, w.dropped, w.flushed = 0, 0, true
	m.text = "FLUSHALL, and the producer starts over"
}

func (e *engine) operator(m *move, letter, name string, args []string, a action) {
	e.script(m, "", a, name+" "+letter, args)
}

// forgetOrphans removes the orphans that nothing refers to.
func (w *world) forgetOrphans(v *view) {
	w.orphans = slices.DeleteFunc(w.orphans, func(run string) bool {
		for _, late := range w.late {
			if late.run == run || slices.ContainsFunc(late.args, func(a string) bool { return strings.HasSuffix(a, ":"+run) }) {
				return false
			}
		}
		if len(v.inFlight[run]) > 0 || v.inboxes[run] > 0 || v.isMember(run) || v.isAlive(run) || slices.Contains(v.gone, run) {
			return false
		}
		return !slices.ContainsFunc(v.letters, func(id string) bool { return strings.HasPrefix(id, run+".") })
	})
}
