package rpc

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"slices"
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

// kind says what a child is there for.
type kind int

const (
	kindSlot  kind = iota // one of the pool's regular children
	kindExtra             // for slots that are lent, see runExtra
	kindLone              // for one task, see runLone
)

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

// processID names one child process for ever: it is in its environment, in
// initialize, and in the log.
func processID(workerID string, slot int) string {
	return fmt.Sprintf("%s-%d-%s", workerID, slot, rand.Text()[:10])
}

// attach starts the goroutines of the child's three pipes.
func (c *child) attach() error {
	stderr, err := watch(c.proc.Stderr())
	if err != nil {
		return err
	}
	c.stderr = stderr
	c.stdout = &listener{pipe: c.proc.Stdout(), due: c.suspects.due, stall: c.cfg.WriteTimeout}
	c.stdout.lines = protocol.NewLineReader(c.stdout, c.cfg.MaxMessageBytes)
	c.stdout.lines.OnSkip(c.skipped)
	c.stdoutDone = make(chan struct{})
	c.stderrDone = make(chan struct{})
	c.stdinDone = make(chan struct{})
	go func() {
		defer close(c.stdoutDone)
		c.pool.safe(func() { c.read(c.stdout) })
	}()
	go func() {
		defer close(c.stderrDone)
		c.pool.safe(func() { local.LogLines(stderr, c.log, "worker stderr", c.tail, c.only) })
	}()
	go func() {
		defer close(c.stdinDone)
		c.pool.safe(func() {
			if err := c.out.write(c.proc.Stdin(), c.cfg.WriteTimeout, c.proc.Exited()); err != nil {
				c.stdinFailed(err)
			}
		})
	}()
	return nil
}

func (c *child) starting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.limit == 0
}

// several: it runs more than one task at a time.
func (c *child) several() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.limit > 1
}

// join adds the child's slots to the capacity.
func (c *child) join() { c.src.AddCapacity(c.limit) }

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

// provesLocked notes that the child has answered a task.
func (c *child) provesLocked() {
	if !c.useful {
		c.useful = true
		close(c.worked)
	}
}

func (c *child) isUseful() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.useful
}

// misbehaved counts a breach of the protocol.
func (c *child) misbehaved(what string) {
	if c.cfg.Misbehaved != nil {
		c.cfg.Misbehaved(what)
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

// stdinFailed judges a write that failed. The pipe of a child that has just
// ended fails too; that is its end's story and not this one's.
func (c *child) stdinFailed(err error) {
	switch {
	case local.Within(c.proc.Exited(), outputGrace):
	case isTimeout(err):
		c.breakWith(fmt.Sprintf("read nothing from its stdin for %v", c.cfg.WriteTimeout))
	default:
		c.breakWith("closed its stdin")
	}
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}

// readDone is closed when the child's stdout has ended.
func (c *child) readDone() <-chan struct{} { return c.stdoutDone }

// stdoutEnded waits for the end of a process whose stdout has ended. One that goes on
// cannot answer any more: it is ended for that, and not by the signal which does it.
func (c *child) stdoutEnded() {
	if !local.Within(c.proc.Exited(), outputGrace) {
		c.breakWith("closed its stdout")
	}
}

func (c *child) status() worker.Slot {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := worker.Slot{Slot: c.slot, Pid: c.proc.Pid(), Concurrency: c.limit, Leaving: c.draining || c.condemned || c.cut || c.left, Lent: c.kind == kindExtra}
	for _, r := range c.running {
		if r.fetching != nil {
			continue // not started
		}
		s.Tasks = append(s.Tasks, worker.Task{
			TaskID: r.task.Info.TaskID, SessionID: r.task.Info.SessionID, GroupID: r.task.Info.GroupID, Delivery: r.task.Delivery,
			Attempt: r.task.Attempt, Started: r.started, Waiting: r.waiting, Progress: r.said,
		})
	}
	slices.SortFunc(s.Tasks, func(a, b worker.Task) int { return a.Started.Compare(b.Started) })
	return s
}

// only returns the attributes that name the task when the child runs exactly
// one: with several, a line cannot be attributed.
func (c *child) only() []any {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.running) != 1 {
		return nil
	}
	for _, r := range c.running {
		return r.task.LogAttrs()
	}
	return nil
}

func (c *child) idleNow() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.running) == 0
}

func (c *child) isSpent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recycle.spent()
}

// shouldRecycle says why the child is to be replaced, or nothing.
func (c *child) shouldRecycle(now time.Time) string {
	c.mu.Lock()
	spent, taken, expires := c.recycle.spent(), c.recycle.taken, c.recycle.expires
	c.mu.Unlock()
	switch {
	case spent:
		return fmt.Sprintf("it has had %d tasks (SIDECAR_MAX_TASKS_PER_CHILD)", taken)
	case now.Before(c.recycle.barred):
		return ""
	case !expires.IsZero() && !now.Before(expires):
		return "it is old enough (SIDECAR_MAX_CHILD_AGE)"
	case c.cfg.MaxChildRSS == 0 || now.Sub(c.recycle.measured) < measureGap:
		return ""
	}
	c.recycle.measured = now
	rss, err := c.pool.resident(c.proc.Pid())
	if err != nil || rss <= c.cfg.MaxChildRSS { // it has just ended, say
		return ""
	}
	return fmt.Sprintf("it takes %d MiB (SIDECAR_MAX_CHILD_RSS)", rss>>20)
}

// replacePatience is how long a child that is being replaced may go on with what
// it has before the next one's turn comes: one task of an hour must not keep
// the other workers old for an hour.
const replacePatience = 10 * time.Second

// requestReplacement has the child's keeper start a replacement, and returns when it is
// there. It fails when the replacement did not start or ctx has ended. Of several
// callers one is served at a time: the others wait until the child takes nothing more,
// or try next. A child that ends by itself is replaced as any other that does.
func (c *child) requestReplacement(ctx context.Context) error {
	came := make(chan error, 1)
	select {
	case c.replacing <- came:
	case <-c.closing:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-came:
		return err
	case <-c.closing:
		select {
		case err := <-came:
			return err
		default:
			return nil
		}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// replace is requestReplacement and also waits until the child is gone, for
// replacePatience at most once the replacement is there.
func (c *child) replace(ctx context.Context) error {
	if err := c.requestReplacement(ctx); err != nil {
		return err
	}
	patience := time.NewTimer(replacePatience)
	defer patience.Stop()
	select {
	case <-c.over:
	case <-patience.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// goes has the child take nothing more, as if it had asked for that itself.
func (c *child) goes() {
	c.mu.Lock()
	if !c.draining {
		c.draining = true
		close(c.drained)
	}
	c.mu.Unlock()
	notify(c.free)
}

func (c *child) isDraining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

// leave takes them out again: the child takes nothing more. What still runs in
// it keeps its own until it ends, so that a child of long tasks that is being
// replaced takes nothing away from the others. It may be called more than once.
func (c *child) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left {
		return
	}
	from := make([]task.SlotState, 0, len(c.running))
	for _, r := range c.running {
		from = append(from, c.placeLocked(r))
	}
	c.left = true
	for _, p := range from {
		to := p
		to.OutsideCapacity = true
		c.src.Update(p, to)
	}
	c.src.AddCapacity(-c.limit)
}

// cutShort notes that the child is being ended. A worker whose stdin ends, or
// that gets a SIGTERM, cancels what it runs and may still answer with the
// error of that: such an answer is no failure of the task. A success counts.
func (c *child) cutShort() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cut = true
}

func (c *child) isCut() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cut
}

// ladder ends the process and returns when its group is dead.
func (c *child) ladder(hard context.Context) {
	local.End(hard, c.proc, c.out.close, c.cfg.KillGrace)
}

// outputGrace is how long a dead child's pipes are read to their end: they are
// held open only by a grandchild that left the process group.
const outputGrace = time.Second

// detach ends those goroutines, after the process group is dead: output that
// is still in the pipes is read first, within a bound, and only then are the
// pipes closed. Closing first loses output; without the bound a process that
// holds the other end would keep the sidecar from ending.
func (c *child) detach() {
	_ = c.proc.Stdin().Close()
	<-c.stdinDone
	deadline := time.Now().Add(outputGrace)
	c.stdout.deadline.end(c.proc.Stdout(), deadline)
	_ = c.proc.Stderr().SetReadDeadline(deadline)
	<-c.stdoutDone
	<-c.stderrDone
	_ = c.proc.Stdout().Close()
	_ = c.proc.Stderr().Close()
	c.detached.Store(true)
}

// quit reports whether the child ended by itself with status 0 after it had answered a
// task, as workers do that want a fresh process now and then, and had not said that it
// would. Only after it has ended.
func (c *child) quit() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.quitLocked()
}

func (c *child) quitLocked() bool {
	return c.useful && c.fault == "" && !c.draining && local.EndingOf(c.proc) == (local.Ending{})
}

// reason says why the child is gone, for the log.
func (c *child) reason() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault != "" {
		return c.fault
	}
	return c.proc.Fate()
}

// lastWords quotes the child's last line on stderr, if there was one.
func (c *child) lastWords() string {
	if last := c.tail.Last(); last != "" {
		return "; its last line on stderr: " + last
	}
	return ""
}

// sawInstead quotes what the worker printed in place of the protocol.
func (c *child) sawInstead() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.firstLine == "" {
		return ""
	}
	const most = 120
	line := []rune(c.firstLine)
	if len(line) > most {
		line = append(line[:most], '…')
	}
	return fmt.Sprintf("; on stdout it printed %q", string(line))
}

// notify leaves a token, unless one is there.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
