package process

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/subproc"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// child is one worker process that speaks the protocol. Its state is changed
// by its methods under mu; the goroutines are: reader (stdout), stderr logger,
// writer (stdin), pump (takes tasks) and the keeper that owns it.
type child struct {
	cfg     *Config
	slot    int
	limit   int // tasks at once
	log     *slog.Logger
	proc    subproc.Process
	out     *outbox
	tail    *subproc.Tail
	stderr  *watched
	src     Source
	sink    Sink
	evicted func(*task.Task) bool // see Pool.isEvicted

	answered chan protocol.Message // the answer to initialize; buffered
	broken   chan struct{}         // closed with the first fault that ends this child
	drained  chan struct{}         // closed when the worker said $/draining
	free     chan struct{}         // one token: a slot may be free
	idle     chan struct{}         // one token: the last task ended

	over     chan struct{}   // closed when all it held is accounted for
	detached atomic.Bool     // its process and the goroutines of its pipes are gone
	safe     func(func())    // see Pool.safe
	asking   *sync.WaitGroup // see Pool.asking

	renew     chan struct{} // one token: a successor is wanted, see Renew
	succeeded chan error    // what came of that; buffered

	stdoutDone, stderrDone, stdinDone chan struct{} // see attach

	mu        sync.Mutex
	running   map[int64]*run
	nextID    int64
	cut       bool   // the ladder has begun: a failure from now on is our doing
	condemned bool   // a cancelled task did not end: nothing new, and killed soon
	firstLine string // first line on stdout that was no message
	prints    int
	fault     string // why broken was closed
	draining  bool
	dead      bool // no task may be written any more
	pingID    int64
	pingSent  time.Time
	opened    opened   // requests of the worker
	inputs    []wanted // set before the first task
	fetches   sync.WaitGroup
}

// run is one task inside a child.
type run struct {
	task     task.Task
	started  time.Time
	expiry   *time.Timer
	expired  bool
	scope    *scope             // nil until it asks for something
	fetching context.CancelFunc // nil once it is started, see fetchLocked
	said     Progress           // last
}

const initializeID = 1

func newChild(cfg *Config, slot int, p subproc.Process, src Source, sink Sink, evicted func(*task.Task) bool) *child {
	return &child{
		cfg: cfg, slot: slot, proc: p, src: src, sink: sink, evicted: evicted,
		log:      cfg.Log.With("slot", slot, "pid", p.Pid()),
		out:      newOutbox(),
		tail:     &subproc.Tail{},
		answered: make(chan protocol.Message, 1),
		broken:   make(chan struct{}),
		drained:  make(chan struct{}),
		free:     make(chan struct{}, 1),
		idle:     make(chan struct{}, 1),
		over:     make(chan struct{}),
		renew:    make(chan struct{}, 1), succeeded: make(chan error, 1),
		running: make(map[int64]*run),
		nextID:  initializeID + 1,
	}
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

// pump moves tasks from the source into the child until ctx ends or the source
// closes. In a child that runs several, a task that must be alone goes to lone.
func (c *child) pump(ctx context.Context, lone func(task.Task)) {
	defer c.fetches.Wait()
	for {
		n := c.awaitFree(ctx)
		if n == 0 {
			return
		}
		ts, err := c.src.Take(ctx, n)
		if err != nil {
			return
		}
		if c.limit > 1 {
			ts = slices.DeleteFunc(ts, func(t task.Task) bool {
				if t.Lone == task.AloneInChild {
					lone(t)
				}
				return t.Lone == task.AloneInChild
			})
		}
		c.begin(ctx, ts)
	}
}

// awaitFree waits for a free slot and returns how many there are; 0 when ctx
// ended or the child takes nothing more.
func (c *child) awaitFree(ctx context.Context) int {
	for {
		c.mu.Lock()
		n := c.limit - len(c.running)
		if c.dead || c.draining || c.condemned {
			n = -1
		}
		c.mu.Unlock()
		switch {
		case n > 0 && ctx.Err() == nil:
			return n
		case n < 0:
			return 0
		}
		select {
		case <-ctx.Done():
			return 0
		case <-c.free:
		}
	}
}

// begin writes tasks to the child. A child that is going gives them back
// untouched.
func (c *child) begin(ctx context.Context, ts []task.Task) {
	now := time.Now()
	c.mu.Lock()
	if c.dead || c.draining || c.condemned {
		c.mu.Unlock()
		c.src.Undo(ts)
		return
	}
	ids := make([]int64, len(ts))
	var evicted []task.Task
	for i, t := range ts {
		if c.evicted(&t) {
			evicted = append(evicted, t)
			continue
		}
		id := c.nextID
		c.nextID++
		if names := c.inputsFor(t.Info.TaskID); names != nil {
			c.fetchLocked(ctx, id, &run{task: t}, names)
			continue
		}
		ids[i] = id
		r := &run{task: t, started: now}
		if d := t.Limit(c.cfg.TaskTimeout); d > 0 {
			r.expiry = time.AfterFunc(d, func() { c.expire(id) })
		}
		c.running[id] = r
	}
	c.mu.Unlock()
	for _, t := range evicted {
		c.finish(&run{task: t}, task.Outcome{Kind: task.Returned, Message: "its lease was lost"})
	}
	for i, t := range ts {
		if ids[i] == 0 {
			continue // evicted, or its inputs are being read
		}
		p := (&run{task: t}).params(c.cfg.TaskTimeout, now)
		c.out.add(func(dst []byte) []byte { return protocol.AppendTaskRun(dst, ids[i], p) })
	}
}

// end takes a task out of the child; nil when it is not (or no longer) there. An
// answer to one that was never sent is an answer to nothing.
func (c *child) end(id int64) *run {
	c.mu.Lock()
	r := c.running[id]
	if r == nil || r.fetching != nil {
		c.mu.Unlock()
		return nil
	}
	delete(c.running, id)
	last := len(c.running) == 0
	c.judgeLocked()
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
	c.unasked(r)
	o.Task, o.StartedAt, o.EndedAt = r.task, r.started, time.Now()
	c.sink.Done(o)
	c.src.Done(1)
}

// abandon ends the child's life: what it still holds becomes an outcome by
// the reason of its end. Only after the process group is dead.
func (c *child) abandon(asked bool) {
	c.mu.Lock()
	c.dead = true
	left := c.running
	c.running = make(map[int64]*run)
	fate := c.proc.Fate()
	if c.fault != "" {
		fate = c.fault
	}
	expired := 0
	for _, r := range left {
		if r.expired {
			expired++
		}
	}
	c.mu.Unlock()
	for _, r := range left {
		if r.expiry != nil {
			r.expiry.Stop()
		}
		o := task.Outcome{Kind: task.Lost, Message: "the worker " + fate, Stderr: c.tail.Text(), Shared: len(left) > 1}
		switch {
		case r.expired:
			o = timedOut(r, c.cfg.TaskTimeout)
		case asked || expired > 0:
			// Cut short by a stop, or by a neighbour that had to be killed.
			o = task.Outcome{Kind: task.Returned, Message: "cut short"}
		}
		c.finish(r, o)
	}
}

// only returns the attributes that name the task when the child runs exactly
// one: with several, nobody can tell whose line it was.
func (c *child) only() []any {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.running) != 1 {
		return nil
	}
	for _, r := range c.running {
		return []any{"task_id", r.task.Info.TaskID, "delivery", r.task.Delivery}
	}
	return nil
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
