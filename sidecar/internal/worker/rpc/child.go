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

// child is one worker process that speaks the protocol. Its state is changed by its
// methods, under mu. Its goroutines are the reader of stdout (reader.go), the logger of
// stderr, the writer of stdin (outbox), the pump, which acquires tasks
// (child_tasks.go), and the supervisor that owns it.
type child struct {
	pool    *Pool
	cfg     *Config
	slot    int
	role    role
	limit   int // tasks at once
	log     *slog.Logger
	proc    local.Process
	out     *outbox
	tail    *local.Tail
	stderr  *stderrPipe
	src     Source
	recycle recycleState

	answered chan protocol.Message // the answer to initialize; buffered
	broken   chan struct{}         // closed with the first fault that ends this child
	drained  chan struct{}         // closed when the child takes no more tasks: $/draining, or its host leaves
	free     chan struct{}         // one token: a slot may be free
	idle     chan struct{}         // one token: the last task ended
	reading  chan struct{}         // a token for each stored value that is being fetched, see reserveAnswer

	over     chan struct{} // closed when every task of the child has an outcome
	worked   chan struct{} // closed when the child has answered a task
	closing  chan struct{} // closed when the child takes no more tasks, for whatever reason
	detached atomic.Bool   // its process and the goroutines of its pipes have ended

	replacing chan chan<- error // requests for a replacement; each gets the result, see requestReplacement

	stdoutDone, stderrDone, stdinDone chan struct{} // see attach

	mu      sync.Mutex
	running map[int64]*runningTask
	// nextID is the id of the next request. Ids count from 1 for each child and stay
	// within 2^53 (P10): JavaScript and jq 1.6 keep numbers as 64-bit floats and would
	// return a larger id changed.
	nextID  int64
	removed bool // its slots are no longer in the capacity, see removeCapacity
	useful  bool // worked is closed
	// answers is the number of answered tasks, and answeredAt the time of the last answer.
	answers            int
	answeredAt         time.Time
	cut                bool   // the sidecar is ending the process: a failure from now on is its doing
	condemned          bool   // a cancelled task did not end: the child takes no more tasks and will be killed
	firstLine          string // first line on stdout that was not a message
	prints             int
	fault              string // why broken was closed
	draining           bool
	dead               bool // no more tasks may be written
	pingID             int64
	pingSent           time.Time
	outcomes           outcomeBatch // used by the reader only, like suspects and stdout
	suspects           suspects
	stdout             *stdoutPipe
	unansweredRequests requestCount     // unanswered requests of the worker
	inputs             []declaredInputs // set before the first task
	fetches            sync.WaitGroup
}

// role is the purpose of a child.
type role int

const (
	roleRegular  role = iota // one of the children for the configured slots
	roleExtra                // for extra slots, see runExtra
	roleIsolated             // for one task, see runIsolated
)

const initializeID = 1

func newChild(s *supervisor, p local.Process) *child {
	cfg := &s.pool.cfg
	c := &child{
		pool: s.pool, cfg: cfg, slot: s.slot, role: s.role, proc: p, src: s.src,
		log:       cfg.Log.With("slot", s.slot, "pid", p.Pid()),
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
		running:   make(map[int64]*runningTask),
		nextID:    initializeID + 1,
	}
	return c
}

// processID returns an id that no other child process ever has. It is in the
// environment of the process, in initialize, and in the log.
func processID(workerID string, slot int) string {
	return fmt.Sprintf("%s-%d-%s", workerID, slot, rand.Text()[:10])
}

// attach starts the goroutines of the child's three pipes.
func (c *child) attach() error {
	stderr, err := newStderrPipe(c.proc.Stderr())
	if err != nil {
		return err
	}
	c.stderr = stderr
	c.stdout = &stdoutPipe{pipe: c.proc.Stdout(), due: c.suspects.due, stall: c.cfg.WriteTimeout}
	c.stdout.lines = protocol.NewLineReader(c.stdout, c.cfg.MaxMessageBytes)
	c.stdout.lines.OnSkip(c.handleSkipped)
	c.stdoutDone = make(chan struct{})
	c.stderrDone = make(chan struct{})
	c.stdinDone = make(chan struct{})
	go func() {
		defer close(c.stdoutDone)
		c.pool.safe(func() { c.read(c.stdout) })
	}()
	go func() {
		defer close(c.stderrDone)
		c.pool.safe(func() { local.LogLines(stderr, c.log, "worker stderr", c.tail, c.onlyTaskAttrs) })
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

func (c *child) isStarting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.limit == 0
}

// isConcurrent reports whether the child runs more than one task at a time.
func (c *child) isConcurrent() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.limit > 1
}

// addCapacity adds the child's slots to the capacity.
func (c *child) addCapacity() { c.src.AddCapacity(c.limit) }

// ping sends a protocol ping unless one is unanswered. It reports whether an unanswered
// ping is older than limit while no task runs: a child with a running task may be slow
// to answer.
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

// markUsefulLocked notes that the child has answered a task.
func (c *child) markUsefulLocked() {
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

// countMisbehaviour counts a breach of the protocol.
func (c *child) countMisbehaviour(what string) {
	if c.cfg.Misbehaved != nil {
		c.cfg.Misbehaved(what)
	}
}

// breakWith records a fault that the child cannot recover from, so that the supervisor
// replaces the child. Only the first fault is recorded.
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

// stdinFailed handles a failed write to stdin. The write to a child that has just ended
// fails too; the end of the process is then the reason, not the pipe.
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

// stdoutEnded waits for the end of a process whose stdout has ended. A process that
// goes on cannot answer any more: it is ended with that as the reason, and not with the
// signal that ends it.
func (c *child) stdoutEnded() {
	if !local.Within(c.proc.Exited(), outputGrace) {
		c.breakWith("closed its stdout")
	}
}

func (c *child) status() worker.Slot {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := worker.Slot{Slot: c.slot, Pid: c.proc.Pid(), Concurrency: c.limit, Leaving: c.draining || c.condemned || c.cut || c.removed, Extra: c.role == roleExtra}
	for _, r := range c.running {
		if r.fetching != nil {
			continue // not started
		}
		s.Tasks = append(s.Tasks, worker.Task{
			TaskID: r.task.Info.TaskID, SessionID: r.task.Info.SessionID, GroupID: r.task.Info.GroupID, Delivery: r.task.Delivery,
			Attempt: r.task.Attempt, Started: r.started, Waiting: r.waiting, Progress: r.progress,
		})
	}
	slices.SortFunc(s.Tasks, func(a, b worker.Task) int { return a.Started.Compare(b.Started) })
	return s
}

// onlyTaskAttrs returns the attributes that name the task when the child runs exactly
// one: with several, a line cannot be attributed.
func (c *child) onlyTaskAttrs() []any {
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

func (c *child) isIdle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.running) == 0
}

func (c *child) quotaUsed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recycle.spent()
}

// shouldRecycle returns the reason to replace the child, or an empty string.
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
	if err != nil || rss <= c.cfg.MaxChildRSS { // an error: the process may have just ended
		return ""
	}
	return fmt.Sprintf("it takes %d MiB (SIDECAR_MAX_CHILD_RSS)", rss>>20)
}

// replacePatience is how long a child that is being replaced may go on with its tasks
// before the next child's turn: a task of an hour must not keep the other workers old
// for an hour.
const replacePatience = 10 * time.Second

// requestReplacement has the supervisor start a replacement, and returns when it
// serves. It returns an error when the replacement did not start or ctx has ended.
// Concurrent calls are served one at a time; the others return when the child takes no
// more tasks, or are served next. It returns nil when the child ends by itself: the
// supervisor replaces it then.
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

// replace calls requestReplacement and then waits until the child is gone, for
// replacePatience at most.
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

// drain stops the child from taking tasks, as if the worker had sent $/draining.
func (c *child) drain() {
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

// removeCapacity removes the child's slots from the capacity, since the child takes no
// more tasks. Each running task keeps its own slot until it ends, so that the long
// tasks of a child that is being replaced take no slots of other children. It may be
// called more than once.
func (c *child) removeCapacity() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.removed {
		return
	}
	from := make([]task.SlotState, 0, len(c.running))
	for _, r := range c.running {
		from = append(from, c.slotStateLocked(r))
	}
	c.removed = true
	for _, p := range from {
		to := p
		to.OutsideCapacity = true
		c.src.Update(p, to)
	}
	c.src.AddCapacity(-c.limit)
}

// cutShort marks the child as being ended by the sidecar. A worker whose stdin ends, or
// that gets a SIGTERM, cancels its tasks and may still answer with an error: such an
// answer is not a failure of the task. A success counts.
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

// terminate ends the process and returns when its group is dead.
func (c *child) terminate(hard context.Context) {
	local.End(hard, c.proc, c.out.close, c.cfg.KillGrace)
}

// outputGrace is how long the pipes of a dead child are read. Only a grandchild that
// has left the process group keeps them open.
const outputGrace = time.Second

// detach ends the goroutines of the pipes, after the process group is dead. It first
// reads the output that is left in the pipes, within a bound, and then closes them.
// Closing first would lose output; without the bound a process that holds the other end
// would keep the sidecar from ending.
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

// exitedBySelf reports whether the child exited by itself with status 0 after it had
// answered a task, without $/draining, as workers do that restart themselves now and
// then. It may be called after the end of the process only.
func (c *child) exitedBySelf() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.exitedBySelfLocked()
}

func (c *child) exitedBySelfLocked() bool {
	return c.useful && c.fault == "" && !c.draining && local.EndingOf(c.proc) == (local.Ending{})
}

// reason returns why the child is gone, for the log.
func (c *child) reason() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fault != "" {
		return c.fault
	}
	return c.proc.Fate()
}

// quoteStderr quotes the child's last line on stderr, if there is one.
func (c *child) quoteStderr() string {
	if last := c.tail.Last(); last != "" {
		return "; its last line on stderr: " + last
	}
	return ""
}

// quoteStdout quotes the first line that the worker printed on stdout instead of a
// message.
func (c *child) quoteStdout() string {
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

// notify leaves a token in ch, unless there is one.
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
