package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// runningTask is one task of a child.
type runningTask struct {
	task      task.Task
	started   time.Time
	expiry    *time.Timer
	expired   bool
	waiting   bool               // after $/waiting
	slotState task.SlotState     // the state of its slot when it was removed from running
	scope     *scope             // nil until the first request for it
	fetching  context.CancelFunc // cancels the fetch of its inputs; nil when there is no fetch, see fetchLocked
	progress  worker.Progress    // the last $/progress
	lineEnd   atomic.Int64       // where its line ends in the bytes of the outbox; 0 until it is written
}

// pump moves tasks from the source to the child until ctx ends or the source closes.
// Where the child runs several tasks, isolate gets the tasks that must not share a
// process.
func (c *child) pump(ctx context.Context, isolate func(task.Task)) {
	defer c.fetches.Wait()
	for {
		n := c.awaitFree(ctx)
		if n == 0 {
			return
		}
		ts, err := c.src.Acquire(ctx, n)
		if err != nil {
			return
		}
		if c.limit > 1 {
			ts = slices.DeleteFunc(ts, func(t task.Task) bool {
				if t.Isolation != task.IsolateNone {
					isolate(t)
				}
				return t.Isolation != task.IsolateNone
			})
		}
		c.startTasks(ctx, ts)
	}
}

// awaitFree waits for a free slot and returns the number of free slots; 0 when ctx has
// ended or the child takes no more tasks.
func (c *child) awaitFree(ctx context.Context) int {
	for {
		c.mu.Lock()
		n := c.recycle.bound(c.limit - len(c.running))
		if c.dead || c.draining || c.condemned || c.recycle.spent() {
			n = -1
		}
		c.mu.Unlock()
		switch {
		case n > 0 && ctx.Err() == nil:
			if c.awaitSelfExit(ctx) {
				continue
			}
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

// awaitSelfExit waits while the child may be about to exit by itself. It reports
// whether it waited.
func (c *child) awaitSelfExit(ctx context.Context) bool {
	c.mu.Lock()
	answers, since := c.answers, c.answeredAt
	c.mu.Unlock()
	delay := c.pool.selfExits.delayAfter(answers)
	if answers == 0 || delay == 0 || time.Since(since) >= delay {
		return false
	}
	timer := time.NewTimer(time.Until(since.Add(delay)))
	defer timer.Stop()
	select {
	case <-timer.C:
		c.pool.selfExits.survived(answers)
	case <-ctx.Done(): // the child has exited, or the pool stops
	}
	return true
}

// startTasks writes tasks to the child. A child that takes no more tasks returns them.
func (c *child) startTasks(ctx context.Context, ts []task.Task) {
	now := time.Now()
	c.mu.Lock()
	if c.dead || c.draining || c.condemned {
		c.mu.Unlock()
		c.src.Return(ts)
		return
	}
	ids := make([]int64, len(ts))
	runs := make([]*runningTask, len(ts))
	var evicted []task.Task
	for i, t := range ts {
		if c.pool.isEvicted(&t) {
			evicted = append(evicted, t)
			continue
		}
		id := c.nextID
		c.nextID++
		c.recycle.taken++
		if names := c.inputsOf(t.Info.TaskID); names != nil {
			c.fetchLocked(ctx, id, &runningTask{task: t}, names)
			continue
		}
		ids[i] = id
		r := &runningTask{task: t, started: now}
		runs[i] = r
		if d := t.Limit(c.cfg.TaskTimeout); d > 0 {
			r.expiry = time.AfterFunc(d, func() { c.cancelExpired(id) })
		}
		c.running[id] = r
	}
	spent := c.recycle.spent()
	c.mu.Unlock()
	if spent {
		c.removeCapacity()
		notify(c.pool.recycleCheck)
	}
	for _, t := range evicted {
		r := &runningTask{task: t}
		c.mu.Lock()
		r.slotState = c.slotStateLocked(r)
		c.mu.Unlock()
		c.publish(r, task.Outcome{Conclusion: task.Returned, Message: "its lease was lost"})
	}
	c.out.addAll(len(ts), func(dst []byte, i int) []byte {
		if ids[i] == 0 {
			return dst // evicted, or its inputs are being fetched
		}
		return protocol.AppendTaskRun(dst, ids[i], params(&ts[i], c.cfg.TaskTimeout, now))
	}, func(i int, end int64) { runs[i].lineEnd.Store(end) })
}

// params returns the params of task/run for a task that starts now.
func params(t *task.Task, timeout time.Duration, now time.Time) protocol.RunParams {
	p := protocol.RunParams{
		Delivery: t.Delivery, Record: t.Record, Attempt: t.Attempt, Traceparent: t.Traceparent(),
	}
	if d := t.Limit(timeout); d > 0 {
		p.DeadlineUnixMs = now.Add(d).UnixMilli()
	}
	return p
}

// inputsOf returns the names of the inputs that the worker declared for a task, each
// once. It returns nil if the worker declared none, and an empty list if it wants only
// the inputs that the workflow defines for the task (P57).
func (c *child) inputsOf(id string) (names []string) {
	if c.cfg.Requests == nil {
		return nil
	}
	for _, w := range c.inputs {
		if protocol.MatchTask(w.pattern, id) {
			names = append(slices.Grow(names, len(w.names)+1), w.names...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// fetchLocked fetches the inputs of a task before the task is started. Until then the
// task only has a slot. ctx is that of the pump, which waits for the fetch.
func (c *child) fetchLocked(ctx context.Context, id int64, r *runningTask, names []string) {
	ctx, cancel := context.WithCancel(ctx)
	r.fetching = cancel
	c.running[id] = r
	c.fetches.Go(func() {
		defer cancel()
		c.pool.safe(func() { c.fetch(ctx, id, r, names) })
	})
}

// fetch reads the inputs of a task and starts it. If the child, the lease or the
// sidecar ends meanwhile, the task is returned without an attempt used: it was not
// started.
func (c *child) fetch(ctx context.Context, id int64, r *runningTask, names []string) {
	inputs, err := c.cfg.Requests.Inputs(ctx, &r.task, names)
	o := task.Outcome{Conclusion: task.Returned, Message: "not started"}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		o = task.Outcome{Conclusion: task.Failed, Reason: "inputs", Message: fmt.Sprintf("the inputs of this task cannot be read: %v", err)}
	default:
		size, started := c.startFetched(ctx, id, r, inputs)
		if started {
			return
		}
		if size > c.cfg.MaxMessageBytes {
			o = task.Outcome{Conclusion: task.Failed, Reason: "inputs", Message: fmt.Sprintf(
				"the task and its inputs have %d bytes, more than the %d that are allowed (SIDECAR_MAX_MESSAGE_BYTES)", size, c.cfg.MaxMessageBytes)}
		}
	}
	c.mu.Lock()
	r.fetching = nil // so that remove finds it
	c.mu.Unlock()
	if r := c.remove(id, false); r != nil {
		c.publish(r, o)
	}
}

// startFetched writes a task whose inputs are fetched; its time limit begins now. It
// returns the length of the line, and whether the line was written.
func (c *child) startFetched(ctx context.Context, id int64, r *runningTask, inputs []protocol.Input) (size int, started bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil || c.dead || c.draining || c.condemned {
		return 0, false
	}
	now := time.Now()
	p := params(&r.task, c.cfg.TaskTimeout, now)
	p.Inputs = inputs
	line := protocol.AppendTaskRun(nil, id, p)
	if len(line) > c.cfg.MaxMessageBytes {
		return len(line), false
	}
	r.started, r.fetching = now, nil
	if d := r.task.Limit(c.cfg.TaskTimeout); d > 0 {
		r.expiry = time.AfterFunc(d, func() { c.cancelExpired(id) })
	}
	// Under the lock, so that a cancel of the task is not written before it.
	r.lineEnd.Store(c.out.add(func(dst []byte) []byte { return append(dst, line...) }))
	return len(line), true
}

// slotStateLocked returns the state of the slot of a task.
func (c *child) slotStateLocked(r *runningTask) task.SlotState {
	p := r.task.SlotState()
	p.OutsideCapacity, p.Waiting = c.removed || c.role == roleIsolated, r.waiting
	return p
}

// setWaiting handles $/waiting and $/resumed. A repeated notification changes nothing.
func (c *child) setWaiting(params []byte, on bool) {
	var p protocol.DeliveryParams
	if err := json.Unmarshal(params, &p); err != nil {
		c.handlePrint(params)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.running {
		if r.task.Delivery != p.Delivery || r.waiting == on {
			continue
		}
		from := c.slotStateLocked(r)
		r.waiting = on
		c.src.Update(from, c.slotStateLocked(r))
		if on {
			c.pool.noteWaiting(1)
		} else {
			c.pool.noteWaiting(-1)
		}
		return
	}
}

// runOfLocked returns the started task with a delivery id, or nil.
func (c *child) runOfLocked(delivery string) *runningTask {
	for _, r := range c.running {
		if r.task.Delivery == delivery && r.fetching == nil {
			return r
		}
	}
	return nil
}

// handleRequest starts to serve a request of the worker. It does not wait for the
// service, because the reader calls it.
func (c *child) handleRequest(m protocol.Message) {
	id, method := bytes.Clone(m.ID), m.Method
	if !protocol.IsTaskRequest(method) || c.cfg.Requests == nil {
		c.refuse(id, protocol.Errorf(protocol.CodeMethodNotFound, "method not found: %s", method))
		return
	}
	size := len(m.Params)
	if problem := c.crowded(size); problem != nil {
		c.refuse(id, problem)
		return
	}
	a, err := protocol.DecodeTaskRequest(method, bytes.Clone(m.Params)) // the reader reuses the buffer of the line
	if err != nil {
		c.refuse(id, protocol.Errorf(protocol.CodeInvalidParams, "%v", err))
		return
	}
	r, s := c.admit(a.Delivery, size)
	if r == nil {
		c.refuse(id, deliveryEnded(a.Delivery))
		return
	}
	c.pool.requests.Go(func() {
		c.pool.safe(func() {
			defer s.open.Done()
			defer c.uncountRequest(size)
			c.serveRequest(s.ctx, r, id, method, &a)
		})
	})
}

// crowded refuses a request that would exceed the memory for unanswered requests, or
// for answers that the worker does not read.
func (c *child) crowded(size int) *protocol.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	most := maxOpenLines * c.cfg.MaxMessageBytes
	switch {
	case c.unansweredRequests.requests >= maxOpen:
		return protocol.Errorf(protocol.CodeInvalidRequest, "%d requests are unanswered: wait for some answers", maxOpen)
	case c.unansweredRequests.bytes+size > most, c.out.unread() > most:
		return protocol.Errorf(protocol.CodeInvalidRequest, "unanswered requests or unread answers take more than %d bytes: wait for some answers, and read them", most)
	}
	return nil
}

// admit finds the task that a request is for, counts the request and opens the scope of
// the task. It returns nil if the child runs no task with that delivery id.
func (c *child) admit(delivery string, size int) (*runningTask, *scope) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.runOfLocked(delivery)
	if r == nil {
		return nil, nil
	}
	if r.scope == nil {
		r.scope = &scope{}
		r.scope.ctx, r.scope.end = context.WithCancel(context.Background())
	}
	r.scope.open.Add(1)
	c.unansweredRequests.requests++
	c.unansweredRequests.bytes += size
	return r, r.scope
}

// reserveAnswer waits until an answer of any length may be fetched for the child, and
// counts it until done is called. It returns false when ctx ends first. Requests are
// small and their answers may be large: a thousand requests for a value of 10 MB, from
// a worker that read no answers, once had 10 GB of answers in memory.
func (c *child) reserveAnswer(ctx context.Context, method string) (done func(), ok bool) {
	if method != protocol.MethodChannelGet && method != protocol.MethodChannelKeys {
		return func() {}, true
	}
	select {
	case c.reading <- struct{}{}:
	case <-ctx.Done():
		return nil, false
	}
	done = func() { <-c.reading }
	if !c.out.waitBelow(ctx, c.cfg.MaxMessageBytes) {
		done()
		return nil, false
	}
	return done, true
}

// serveRequest answers one request.
func (c *child) serveRequest(ctx context.Context, r *runningTask, id []byte, method string, a *protocol.TaskRequest) {
	done, ok := c.reserveAnswer(ctx, method)
	if !ok {
		c.refuse(id, deliveryEnded(a.Delivery))
		return
	}
	defer done()
	result, err := c.cfg.Requests.Serve(ctx, &r.task, method, a)
	switch problem := (*protocol.Error)(nil); {
	case err == nil:
	case ctx.Err() != nil:
		c.refuse(id, deliveryEnded(a.Delivery))
		return
	case errors.As(err, &problem):
		c.refuse(id, problem)
		return
	default:
		c.refuse(id, protocol.Errorf(protocol.CodeInternal, "%v", err))
		return
	}
	tooLong := 0
	c.out.add(func(dst []byte) []byte {
		line := protocol.AppendResult(dst, id, result)
		if n := len(line) - len(dst); n > c.cfg.MaxMessageBytes {
			tooLong = n
			return protocol.AppendError(dst, id, tooMuch(n, c.cfg.MaxMessageBytes))
		}
		return line
	})
	if tooLong > 0 {
		c.log.Warn("response to a worker is too long", append(r.task.LogAttrs(), "method", method, "bytes", tooLong)...)
	}
}

// refuse answers a request with an error.
func (c *child) refuse(id []byte, e *protocol.Error) {
	const longest = 1024 // the message may quote the request
	if len(e.Message) > longest {
		e = protocol.Errorf(e.Code, "%s…", e.Message[:longest])
	}
	c.out.add(func(dst []byte) []byte { return protocol.AppendError(dst, id, e) })
}

// uncountRequest subtracts an answered request from the counts.
func (c *child) uncountRequest(size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.unansweredRequests.requests--
	c.unansweredRequests.bytes -= size
}

// cancelExpired cancels a task that is past its deadline. If the task does not end, the
// child takes no more tasks and is killed once its other tasks have ended, or after the
// grace period; tasks that are still running then are returned without an attempt used.
func (c *child) cancelExpired(id int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.running[id]
	if r == nil || r.expired {
		return
	}
	r.expired = true
	c.log.Warn("task is past its deadline: cancelled", r.task.LogAttrs()...)
	c.cancelLocked(id)
	r.expiry = time.AfterFunc(c.cfg.KillGrace/4, func() { c.condemn(id) })
}

// condemn marks a child for replacement whose cancelled task has not ended.
func (c *child) condemn(id int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.running[id]
	if r == nil {
		return
	}
	c.condemned = true
	notify(c.free)
	c.breakIfOverdueLocked()
	r.expiry = time.AfterFunc(c.cfg.KillGrace, func() { c.breakWith(ignoredCancel) })
}

const ignoredCancel = "did not end a task past its deadline when it was cancelled"

// breakIfOverdueLocked ends a condemned child that runs only tasks past their deadline.
func (c *child) breakIfOverdueLocked() {
	if !c.condemned {
		return
	}
	for _, r := range c.running {
		if !r.expired {
			return
		}
	}
	c.breakLocked(ignoredCancel)
}

func (c *child) cancelLocked(id int64) {
	if r := c.running[id]; r != nil && r.fetching != nil {
		r.fetching() // the task was not sent to the worker
		return
	}
	c.out.add(func(dst []byte) []byte {
		return protocol.AppendNotification(dst, protocol.MethodCancel, fmt.Appendf(nil, `{"id":%d}`, id))
	})
}

// evict cancels every task of the child, and replaces the child if the tasks do not end
// within the grace period. It returns when none of them runs any more.
func (c *child) evict() {
	c.mu.Lock()
	old := make([]int64, 0, len(c.running))
	for id := range c.running {
		old = append(old, id)
		c.cancelLocked(id)
	}
	c.mu.Unlock()
	poll := time.NewTicker(c.cfg.KillGrace / 50)
	defer poll.Stop()
	grace := time.NewTimer(c.cfg.KillGrace)
	defer grace.Stop()
	for c.runsAny(old) {
		select {
		case <-poll.C:
		case <-grace.C:
			c.breakWith("did not end tasks whose lease was lost when they were cancelled")
			<-c.over
			return
		case <-c.over:
			return
		}
	}
}

func (c *child) runsAny(ids []int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if c.running[id] != nil {
			return true
		}
	}
	return false
}

// remove removes a task from the child. It returns nil if the task is not running or
// was not sent yet: an answer to it is then unexpected. good says that the answer shows
// the worker to be useful.
func (c *child) remove(id int64, good bool) *runningTask {
	c.mu.Lock()
	r := c.running[id]
	if r == nil || r.fetching != nil {
		c.mu.Unlock()
		return nil
	}
	delete(c.running, id)
	r.slotState = c.slotStateLocked(r)
	last := len(c.running) == 0
	c.breakIfOverdueLocked()
	if !r.started.IsZero() {
		c.answers++
		c.answeredAt = time.Now()
	}
	if good {
		c.markUsefulLocked()
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

// overdue reports whether an error is that of a task at its deadline. A worker that
// watches the deadline itself may see it a moment before the sidecar does.
func (r *runningTask) overdue(otherwise time.Duration) bool {
	const slack = 10 * time.Millisecond
	limit := r.task.Limit(otherwise)
	return r.expired || (limit > 0 && time.Since(r.started) >= limit-slack)
}

func timedOut(r *runningTask, limit time.Duration) task.Outcome {
	return task.Outcome{
		Conclusion: task.Failed, Reason: "timeout",
		Message: fmt.Sprintf("Task execution timeout: it ran longer than %v", r.task.Limit(limit)),
	}
}

// publish gives a task's outcome to the sink and then frees its slot. In this order the
// task is always counted, as running or as an outcome.
func (c *child) publish(r *runningTask, o task.Outcome) {
	c.completeOutcome(r, &o)
	c.pool.sink.Add(o)
	c.src.Release(r.slotState)
	c.noteEnded(r)
}

// completeOutcome fills in the task, the times and the process of an outcome, and ends
// the task's requests.
func (c *child) completeOutcome(r *runningTask, o *task.Outcome) {
	c.endRequests(r)
	o.Task, o.StartedAt, o.EndedAt = r.task, r.started, time.Now()
	if !r.started.IsZero() {
		o.Slot, o.PID = c.slot, c.proc.Pid()
	}
}

// endRequests ends the scope of a task that has ended: its waiting requests, and then
// what they left behind, such as locks. It does not wait for either.
func (c *child) endRequests(r *runningTask) {
	if r.scope == nil {
		return
	}
	r.scope.end()
	c.pool.requests.Go(func() {
		c.pool.safe(func() {
			r.scope.open.Wait()
			c.cfg.Requests.Ended(&r.task)
		})
	})
}

func (c *child) noteEnded(r *runningTask) {
	if r.waiting {
		c.pool.noteWaiting(-1)
	}
	if c.cfg.MaxChildRSS > 0 {
		notify(c.pool.recycleCheck) // a worker that is too large is replaced between tasks
	}
}

// outcomeBatch collects outcomes that the reader has not published yet, while more
// answers are in its buffer. Publishing each alone would cost the neighbouring stages a
// lock and a wake-up for each task.
type outcomeBatch struct {
	runs       []*runningTask
	outcomes   []task.Outcome
	slotStates []task.SlotState
}

// maxOutcomeBatch is the maximum number of outcomes that are published together.
const maxOutcomeBatch = 64

// queueOutcome adds an outcome to the batch of the reader, which calls flushOutcomes
// before it waits for input.
func (c *child) queueOutcome(r *runningTask, o task.Outcome) {
	c.completeOutcome(r, &o)
	e := &c.outcomes
	e.runs, e.outcomes, e.slotStates = append(e.runs, r), append(e.outcomes, o), append(e.slotStates, r.slotState)
	if len(e.runs) >= maxOutcomeBatch {
		c.flushOutcomes()
	}
}

// flushOutcomes publishes the batch of the reader.
func (c *child) flushOutcomes() {
	e := &c.outcomes
	if len(e.runs) == 0 {
		return
	}
	c.pool.sink.AddAll(e.outcomes)
	c.src.ReleaseAll(e.slotStates)
	for _, r := range e.runs {
		c.noteEnded(r)
	}
	clear(e.runs)
	clear(e.outcomes) // releases the memory of the records
	e.runs, e.outcomes, e.slotStates = e.runs[:0], e.outcomes[:0], e.slotStates[:0]
}

// abandon publishes an outcome for every task that a dead child still has, by the
// reason of its death. It may be called only when the process group is dead.
func (c *child) abandon(asked bool) {
	c.mu.Lock()
	c.dead = true
	left := c.running
	c.running = make(map[int64]*runningTask)
	read := local.InputRead(c.proc, c.out.written.Load())
	fate, exit := c.proc.Fate(), local.EndingOf(c.proc).Exit()
	if c.fault != "" {
		fate, exit = c.fault, task.ExitOther
	}
	quit, answers, answered := c.exitedBySelfLocked(), c.answers, c.answeredAt
	expired := 0
	for _, r := range left {
		r.slotState = c.slotStateLocked(r)
		if r.expired {
			expired++
		}
	}
	c.mu.Unlock()
	if quit && !asked {
		c.pool.selfExits.learn(answers, time.Since(answered))
	}
	for _, r := range left {
		if r.expiry != nil {
			r.expiry.Stop()
		}
		o := task.Outcome{Conclusion: task.Lost, Message: "the worker " + fate, Stderr: c.tail.Text(), Shared: len(left) > 1, Whole: local.SharedDeath(c.proc), Exit: exit, HostStops: local.HostStops(c.proc)}
		if told := local.HostHangups(c.proc); told != nil {
			o.HostHangups = told
		}
		switch {
		case r.expired:
			o = timedOut(r, c.cfg.TaskTimeout)
		case asked || expired > 0:
			// Ended by a stop, or together with an overdue task whose process was killed.
			o = task.Outcome{Conclusion: task.Returned, Message: "cut short"}
		default:
			c.returnUnread(r, &o, read, quit, answered)
		}
		c.publish(r, o)
	}
}

// returnUnread turns o into a returned task, and reports true, if the child ended
// before it can have begun the task. read is the number of bytes that the child has
// read from its stdin; quit says that it exited by itself, and answered is the time of
// its last answer.
func (c *child) returnUnread(r *runningTask, o *task.Outcome, read int64, quit bool, answered time.Time) bool {
	fate := c.proc.Fate()
	switch {
	case c.fault != "" || o.Whole:
		return false
	case r.lineEnd.Load() > read:
		fate += " before it read the task"
	case quit && r.scope == nil && !r.waiting && r.progress.At.IsZero() && !r.started.Before(answered) && time.Since(r.started) < selfExitWindow:
		// Another thread of the worker may have read the task.
		fate += " right after an answer"
	default:
		return false
	}
	o.Conclusion, o.Unread, o.Message = task.Returned, true, "the worker "+fate
	return true
}

// endAllRequests ends the requests of a child whose supervisor panicked.
func (c *child) endAllRequests() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.running {
		if r.scope != nil {
			r.scope.end()
		}
	}
}
