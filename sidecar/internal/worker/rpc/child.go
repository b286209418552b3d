package rpc

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// child is one worker process that speaks the protocol. Its state is changed
// by its methods under mu; the goroutines are: reader (stdout), stderr logger,
// writer (stdin), pump (takes tasks) and the keeper that owns it.
type child struct {
	pool    *Pool
	cfg     *Config
	slot    int
	kind    kind
	limit   int // tasks at once
	log     *slog.Logger
	proc    local.Process
	out     *outbox
	tail    *local.Tail
	stderr  *watched
	src     Source
	recycle recycleState

	answered chan protocol.Message // the answer to initialize; buffered
	broken   chan struct{}         // closed with the first fault that ends this child
	drained  chan struct{}         // closed when the worker said $/draining
	free     chan struct{}         // one token: a slot may be free
	idle     chan struct{}         // one token: the last task ended
	reading  chan struct{}         // a token for each stored value that is fetched, see room

	over     chan struct{} // closed when all it held is accounted for
	worked   chan struct{} // closed when it has answered a task
	closing  chan struct{} // closed when it takes nothing more for good
	detached atomic.Bool   // its process and the goroutines of its pipes are gone

	replacing chan chan<- error // ask for a replacement, see requestReplacement; each is told what came of it

	stdoutDone, stderrDone, stdinDone chan struct{} // see attach

	mu      sync.Mutex
	running map[int64]*run
	// nextID is the id of the next request. Ids count from 1 for each child and stay
	// within 2^53 (P10): JavaScript and jq 1.6 keep numbers as 64-bit floats and would
	// return a larger id changed.
	nextID int64
	left   bool // its slots are not in the capacity any more, see leave
	useful bool // worked is closed
	// answers is how many tasks it has answered, and answeredAt when the last one.
	answers    int
	answeredAt time.Time
	cut        bool   // the ladder has begun: a failure from now on is our doing
	condemned  bool   // a cancelled task did not end: nothing new, and killed soon
	firstLine  string // first line on stdout that was no message
	prints     int
	fault      string // why broken was closed
	draining   bool
	dead       bool // no task may be written any more
	pingID     int64
	pingSent   time.Time
	ended      ended // the reader's own, as the next two are
	suspects   suspects
	stdout     *listener
	opened     opened   // requests of the worker
	inputs     []wanted // set before the first task
	fetches    sync.WaitGroup
}

// run is one task inside a child.
type run struct {
	task     task.Task
	started  time.Time
	expiry   *time.Timer
	expired  bool
	waiting  bool               // it said $/waiting
	place    task.Place         // how it held its slot when it was taken out of running
	scope    *scope             // nil until it asks for something
	fetching context.CancelFunc // nil once it is started, see fetchLocked
	said     worker.Progress    // last
	end      atomic.Int64       // where its line ends in what is written to the child; 0 before
}

const initializeID = 1

func newChild(k *keeper, p local.Process) *child {
	cfg := &k.pool.cfg
	c := &child{
		pool: k.pool, cfg: cfg, slot: k.slot, kind: k.kind, proc: p, src: k.src,
		log:       cfg.Log.With("slot", k.slot, "pid", p.Pid()),
		out:       newOutbox(),
		tail:      &local.Tail{},
		answered:  make(chan protocol.Message, 1),
		broken:    make(chan struct{}),
		drained:   make(chan struct{}),
		free:      make(chan struct{}, 1),
		idle:      make(chan struct{}, 1),
		reading:   make(chan struct{}, maxReading),
		over:      make(chan struct{}),
		worked:    make(chan struct{}),
		closing:   make(chan struct{}),
		replacing: make(chan chan<- error),
		running:   make(map[int64]*run),
		nextID:    initializeID + 1,
	}
	return c
}

// breakWith records a fault that this child cannot recover from; the keeper
// then replaces it. Only the first counts.
func (c *child) breakWith(fault string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.breakLocked(fault)
}

func (c *child) breakLocked(fault string) {
	if c.fault == "" {
		c.fault = fault
		close(c.broken)
	}
}

// end takes a task out of the child; nil when it is not (or no longer) there. An
// answer to one that was never sent is an answer to nothing. good says that the
// answer shows the worker to be of use.
func (c *child) end(id int64, good bool) *run {
	c.mu.Lock()
	r := c.running[id]
	if r == nil || r.fetching != nil {
		c.mu.Unlock()
		return nil
	}
	delete(c.running, id)
	r.place = c.placeLocked(r)
	last := len(c.running) == 0
	c.judgeLocked()
	if !r.started.IsZero() {
		c.answers++
		c.answeredAt = time.Now()
	}
	if good {
		c.provesLocked()
	}
	c.mu.Unlock()
	if r.expiry != nil {
		r.expiry.Stop()
	}
	notify(c.free)
	if last {
		notify(c.idle)
	}
	return r
}

// finish hands a task's outcome on, and then frees its slot: in this order, so
// that the slots in use never hide a task that is nowhere.
func (c *child) finish(r *run, o task.Outcome) {
	c.complete(r, &o)
	c.pool.sink.Done(o)
	c.src.End(r.place)
	c.finished(r)
}

// complete makes o what the sink gets of it.
func (c *child) complete(r *run, o *task.Outcome) {
	c.endRequests(r)
	o.Task, o.StartedAt, o.EndedAt = r.task, r.started, time.Now()
	if !r.started.IsZero() {
		o.Slot, o.PID = c.slot, c.proc.Pid()
	}
}

func (c *child) finished(r *run) {
	if r.waiting {
		c.pool.waited(-1)
	}
	if c.cfg.MaxChildRSS > 0 {
		notify(c.pool.recycleCheck) // between tasks is the time to look
	}
}

// ended are tasks that have been answered and are still to be handed on, by the
// reader, which has more answers at hand: each of them costs the stages around it
// a lock and a look around.
type ended struct {
	runs     []*run
	outcomes []task.Outcome
	places   []task.Place
}

// maxEnded is how many are handed on together.
const maxEnded = 64

// ends is finish for the reader, which calls handOn before it waits.
func (c *child) ends(r *run, o task.Outcome) {
	c.complete(r, &o)
	e := &c.ended
	e.runs, e.outcomes, e.places = append(e.runs, r), append(e.outcomes, o), append(e.places, r.place)
	if len(e.runs) >= maxEnded {
		c.handOn()
	}
}

// handOn hands on what has ended.
func (c *child) handOn() {
	e := &c.ended
	if len(e.runs) == 0 {
		return
	}
	c.pool.sink.DoneAll(e.outcomes)
	c.src.EndAll(e.places)
	for _, r := range e.runs {
		c.finished(r)
	}
	clear(e.runs)
	clear(e.outcomes) // let go of the records
	e.runs, e.outcomes, e.places = e.runs[:0], e.outcomes[:0], e.places[:0]
}

// abandon ends the child's life: what it still holds becomes an outcome by
// the reason of its end. Only after the process group is dead.
func (c *child) abandon(asked bool) {
	c.mu.Lock()
	c.dead = true
	left := c.running
	c.running = make(map[int64]*run)
	read := local.InputRead(c.proc, c.out.written.Load())
	fate, exit := c.proc.Fate(), local.EndingOf(c.proc).Exit()
	if c.fault != "" {
		fate, exit = c.fault, task.ExitOther
	}
	quit, answers, answered := c.quitLocked(), c.answers, c.answeredAt
	expired := 0
	for _, r := range left {
		r.place = c.placeLocked(r)
		if r.expired {
			expired++
		}
	}
	c.mu.Unlock()
	if quit && !asked {
		c.pool.quits.learn(answers, time.Since(answered))
	}
	for _, r := range left {
		if r.expiry != nil {
			r.expiry.Stop()
		}
		o := task.Outcome{Kind: task.Lost, Message: "the worker " + fate, Stderr: c.tail.Text(), Shared: len(left) > 1, Whole: local.Company(c.proc), Exit: exit, HostStops: local.HostStops(c.proc)}
		if told := local.HostHangups(c.proc); told != nil {
			o.HostHangups = told
		}
		switch {
		case r.expired:
			o = timedOut(r, c.cfg.TaskTimeout)
		case asked || expired > 0:
			// Cut short by a stop, or by a neighbour that had to be killed.
			o = task.Outcome{Kind: task.Returned, Message: "cut short"}
		default:
			c.unbegun(r, &o, read, quit, answered)
		}
		c.finish(r, o)
	}
}

// ping sends a protocol ping unless one is outstanding, and reports whether
// the outstanding one has been for longer than limit while nothing runs. A
// busy child is never judged by a slow ping alone.
func (c *child) ping(limit time.Duration) (overdue bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pingID != 0 {
		return len(c.running) == 0 && time.Since(c.pingSent) > limit
	}
	c.pingID, c.pingSent = c.nextID, time.Now()
	c.nextID++
	id := c.pingID
	c.out.add(func(dst []byte) []byte {
		return protocol.AppendRequest(dst, id, protocol.MethodPing, []byte("{}"))
	})
	return false
}
