package explore

import (
	"slices"
	"strconv"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redismodel"
)

// doing is the call that a sidecar makes for a delivery. It is fixed once the call was
// sent: after a lost reply the same call is repeated.
type doing uint8

const (
	undecided doing = iota
	reporting       // the task has ended
	failing         // the task has failed for good
	losing          // its worker died
	returning
	deferring
)

// delivery is a delivery that a sidecar has in memory.
type delivery struct {
	seq    int64
	record uint8
	losses uint8
	doing  doing
}

// sidecar is what one process remembers.
type sidecar struct {
	slot         uint8
	generation   uint8 // of run ids, over all processes in this slot
	run          string
	former       []string // runs of this process, the current one included, as lease.Redis has them
	turn         int64
	claiming     bool // the reply to the claim with this turn was lost
	floor        int64
	adoptedFloor int64
	has          []delivery // by seq
	reply        []delivery // the reply to the claim is on its way
	waiting      bool       // there is such a reply
	reaping      string     // a dead run whose records this sidecar requeues
	retired      bool       // it is no member any more
	leaving      bool
	ticked       bool
	tickOffset   int64 // at the last tick: Redis' clock minus the sidecar's
}

// message is a call that is on the network after its sidecar has given up waiting.
type message struct {
	text string
	args []string
	run  string // the caller
}

// world is a state of the search.
type world struct {
	redis    *redismodel.Snapshot
	clock    int64 // Redis' clock, ms
	steady   int64 // a clock that no step touches, ms
	sidecars []sidecar
	late     []message
	used     Budget
	orphans  []string // runs whose process is gone
	ended    uint16   // bit set of records that have ended
	dropped  uint16   // bit set of those that ended as a dropped dead letter
	flushed  bool
	absences absences
}

func (w *world) clone() *world {
	c := *w
	c.sidecars = slices.Clone(w.sidecars)
	for i := range c.sidecars {
		c.sidecars[i].has, c.sidecars[i].reply = slices.Clone(c.sidecars[i].has), slices.Clone(c.sidecars[i].reply)
		c.sidecars[i].former = slices.Clone(c.sidecars[i].former)
	}
	c.absences.since = slices.Clone(w.absences.since)
	c.late, c.orphans = slices.Clone(w.late), slices.Clone(w.orphans)
	return &c
}

// newRun gives a sidecar a run id that was never used before.
func (s *sidecar) newRun() string {
	s.generation++
	return string('a'+rune(s.slot)) + strconv.Itoa(int(s.generation))
}

func (s *sidecar) find(seq int64) int {
	return slices.IndexFunc(s.has, func(d delivery) bool { return d.seq == seq })
}

func (s *sidecar) forget(seq int64) {
	if i := s.find(seq); i >= 0 {
		s.has = slices.Delete(s.has, i, i+1)
	}
}

// take adds a delivery, unless the sidecar has it.
func (s *sidecar) take(d delivery) {
	if s.find(d.seq) < 0 {
		s.has = append(s.has, d)
		slices.SortFunc(s.has, func(a, b delivery) int { return int(a.seq>>40-b.seq>>40)*1000 + int(a.seq%1000-b.seq%1000) })
	}
}

// fenced is what a sidecar does when its run is gone: it drops all tasks.
func (s *sidecar) fenced() {
	s.run, s.has, s.reaping, s.retired, s.claiming, s.leaving, s.reply, s.waiting = "", nil, "", false, false, false, nil, false
	s.turn, s.floor, s.adoptedFloor, s.ticked = 0, 0, 0, false
}

// record returns the text of record n. All belong to one group.
func record(n uint8) string { return `{"task_id": "t` + strconv.Itoa(int(n)) + `"}` }

func task(n uint8) string { return "t" + strconv.Itoa(int(n)) }
