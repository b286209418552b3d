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

// run is one task inside a child.
type run struct {
	task     task.Task
	started  time.Time
	expiry   *time.Timer
	expired  bool
	waiting  bool               // it said $/waiting
	place    task.SlotState     // how it held its slot when it was taken out of running
	scope    *scope             // nil until it asks for something
	fetching context.CancelFunc // nil once it is started, see fetchLocked
	said     worker.Progress    // last
	end      atomic.Int64       // where its line ends in what is written to the child; 0 before
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
		ts, err := c.src.Acquire(ctx, n)
		if err != nil {
			return
		}
		if c.limit > 1 {
			ts = slices.DeleteFunc(ts, func(t task.Task) bool {
				if t.Isolation != task.IsolateNone {
					lone(t)
				}
				return t.Isolation != task.IsolateNone
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
		n := c.recycle.bound(c.limit - len(c.running))
		if c.dead || c.draining || c.condemned || c.recycle.spent() {
			n = -1
		}
		c.mu.Unlock()
		switch {
		case n > 0 && ctx.Err() == nil:
			if c.awaitQuit(ctx) {
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

// awaitQuit waits while the child may be about to exit by itself. It reports whether it
// had to.
func (c *child) awaitQuit(ctx context.Context) bool {
	c.mu.Lock()
	answers, since := c.answers, c.answeredAt
	c.mu.Unlock()
	pause := c.pool.quits.pause(answers)
	if answers == 0 || pause == 0 || time.Since(since) >= pause {
		return false
	}
	timer := time.NewTimer(time.Until(since.Add(pause)))
	defer timer.Stop()
	select {
	case <-timer.C:
		c.pool.quits.survived(answers)
	case <-ctx.Done(): // it has exited, or we stop
	}
	return true
}

// begin writes tasks to the child. A child that is going gives them back
// untouched.
func (c *child) begin(ctx context.Context, ts []task.Task) {
	now := time.Now()
	c.mu.Lock()
	if c.dead || c.draining || c.condemned {
		c.mu.Unlock()
		c.src.Return(ts)
		return
	}
	ids := make([]int64, len(ts))
	runs := make([]*run, len(ts))
	var evicted []task.Task
	for i, t := range ts {
		if c.pool.isEvicted(&t) {
			evicted = append(evicted, t)
			continue
		}
		id := c.nextID
		c.nextID++
		c.recycle.taken++
		if names := c.inputsFor(t.Info.TaskID); names != nil {
			c.fetchLocked(ctx, id, &run{task: t}, names)
			continue
		}
		ids[i] = id
		r := &run{task: t, started: now}
		runs[i] = r
		if d := t.Limit(c.cfg.TaskTimeout); d > 0 {
			r.expiry = time.AfterFunc(d, func() { c.expire(id) })
		}
		c.running[id] = r
	}
	spent := c.recycle.spent()
	c.mu.Unlock()
	if spent {
		c.leave()
		notify(c.pool.recycleCheck)
	}
	for _, t := range evicted {
		r := &run{task: t}
		c.mu.Lock()
		r.place = c.placeLocked(r)
		c.mu.Unlock()
		c.finish(r, task.Outcome{Conclusion: task.Returned, Message: "its lease was lost"})
	}
	c.out.addAll(len(ts), func(dst []byte, i int) []byte {
		if ids[i] == 0 {
			return dst // evicted, or its inputs are being read
		}
		return protocol.AppendTaskRun(dst, ids[i], params(&ts[i], c.cfg.TaskTimeout, now))
	}, func(i int, end int64) { runs[i].end.Store(end) })
}

// params are those of the task/run for a task that starts now.
func params(t *task.Task, timeout time.Duration, now time.Time) protocol.RunParams {
	p := protocol.RunParams{
		Delivery: t.Delivery, Record: t.Record, Attempt: t.Attempt, Traceparent: t.Traceparent(),
	}
	if d := t.Limit(timeout); d > 0 {
		p.DeadlineUnixMs = now.Add(d).UnixMilli()
	}
	return p
}

// inputsFor are the names of the inputs that the worker wants for a task, each
// once: nil if it wants none, and none at all if it wants only those that the
// workflow has for the task (P57).
func (c *child) inputsFor(id string) (names []string) {
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

// fetchLocked has a task's inputs read before it is started. Until then it has a
// slot and nothing else; ctx is that of the pump, which waits for this.
func (c *child) fetchLocked(ctx context.Context, id int64, r *run, names []string) {
	ctx, cancel := context.WithCancel(ctx)
	r.fetching = cancel
	c.running[id] = r
	c.fetches.Go(func() {
		defer cancel()
		c.pool.safe(func() { c.fetch(ctx, id, r, names) })
	})
}

// fetch reads a task's inputs and starts it. What ends the child, the lease or
// the sidecar meanwhile sends the task back at no cost: it was not started.
func (c *child) fetch(ctx context.Context, id int64, r *run, names []string) {
	inputs, err := c.cfg.Requests.Inputs(ctx, &r.task, names)
	o := task.Outcome{Conclusion: task.Returned, Message: "not started"}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		o = task.Outcome{Conclusion: task.Failed, Reason: "inputs", Message: fmt.Sprintf("the inputs of this task cannot be read: %v", err)}
	default:
		size, started := c.launch(ctx, id, r, inputs)
		if started {
			return
		}
		if size > c.cfg.MaxMessageBytes {
			o = task.Outcome{Conclusion: task.Failed, Reason: "inputs", Message: fmt.Sprintf(
				"the task and its inputs have %d bytes, more than the %d that are allowed (SIDECAR_MAX_MESSAGE_BYTES)", size, c.cfg.MaxMessageBytes)}
		}
	}
	c.mu.Lock()
	r.fetching = nil // for end
	c.mu.Unlock()
	if r := c.end(id, false); r != nil {
		c.finish(r, o)
	}
}

// launch writes a task whose inputs are there; its clock begins now. It tells how
// long the line is, and whether it was written.
func (c *child) launch(ctx context.Context, id int64, r *run, inputs []protocol.Input) (size int, started bool) {
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
		r.expiry = time.AfterFunc(d, func() { c.expire(id) })
	}
	// Under the lock, so that no cancel of it is written before.
	r.end.Store(c.out.add(func(dst []byte) []byte { return append(dst, line...) }))
	return len(line), true
}

// placeLocked is how a run holds its slot now.
func (c *child) placeLocked(r *run) task.SlotState {
	p := r.task.SlotState()
	p.OutsideCapacity, p.Waiting = c.left || c.kind == kindLone, r.waiting
	return p
}

// waits handles $/waiting and $/resumed of a task. A repetition changes nothing.
func (c *child) waits(params []byte, on bool) {
	var p protocol.DeliveryParams
	if err := json.Unmarshal(params, &p); err != nil {
		c.print(params)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.running {
		if r.task.Delivery != p.Delivery || r.waiting == on {
			continue
		}
		from := c.placeLocked(r)
		r.waiting = on
		c.src.Update(from, c.placeLocked(r))
		if on {
			c.pool.noteWaiting(1)
		} else {
			c.pool.noteWaiting(-1)
		}
		return
	}
}

// runOfLocked is the task that has been started in this child under a delivery.
func (c *child) runOfLocked(delivery string) *run {
	for _, r := range c.running {
		if r.task.Delivery == delivery && r.fetching == nil {
			return r
		}
	}
	return nil
}

// takeRequest takes a request of the worker. It starts its service and does not wait
// for it: the reader calls it.
func (c *child) takeRequest(m protocol.Message) {
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
	a, err := protocol.DecodeTaskRequest(method, bytes.Clone(m.Params)) // the line is the reader's
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
			defer c.forget(size)
			c.serve(s.ctx, r, id, method, &a)
		})
	})
}

// crowded refuses what would make a child's unanswered requests, or the answers
// that it does not read, too many to keep.
func (c *child) crowded(size int) *protocol.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	most := maxOpenLines * c.cfg.MaxMessageBytes
	switch {
	case c.opened.requests >= maxOpen:
		return protocol.Errorf(protocol.CodeInvalidRequest, "%d requests are unanswered: wait for some answers", maxOpen)
	case c.opened.bytes+size > most, c.out.unread() > most:
		return protocol.Errorf(protocol.CodeInvalidRequest, "unanswered requests or unread answers take more than %d bytes: wait for some answers, and read them", most)
	}
	return nil
}

// admit finds the task that asks, counts its request and opens its scope; nil if
// no task of this child runs under that delivery.
func (c *child) admit(delivery string, size int) (*run, *scope) {
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
	c.opened.requests++
	c.opened.bytes += size
	return r, r.scope
}

// room waits until an answer of any length may be fetched for the child, and counts
// it until done is called; false where ctx ends before. Requests are small and their
// answers may be large: a thousand requests for a value of 10 MB that were admitted at once,
// by a worker that reads none of the answers, had 10 GB of them in memory.
func (c *child) room(ctx context.Context, method string) (done func(), ok bool) {
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

// serve answers one request.
func (c *child) serve(ctx context.Context, r *run, id []byte, method string, a *protocol.TaskRequest) {
	done, ok := c.room(ctx, method)
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

// refuse answers with an error.
func (c *child) refuse(id []byte, e *protocol.Error) {
	const longest = 1024 // it may quote what came in
	if len(e.Message) > longest {
		e = protocol.Errorf(e.Code, "%s…", e.Message[:longest])
	}
	c.out.add(func(dst []byte) []byte { return protocol.AppendError(dst, id, e) })
}

// forget takes an answered request off the count.
func (c *child) forget(size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened.requests--
	c.opened.bytes -= size
}

// expire ends a task that is past its deadline: it is cancelled; if that does
// not end it, the child gets nothing new and is killed once its neighbours have
// ended, or after the grace (they go back at no cost then).
func (c *child) expire(id int64) {
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

// condemn is the second step of expire.
func (c *child) condemn(id int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.running[id]
	if r == nil {
		return
	}
	c.condemned = true
	notify(c.free)
	c.judgeLocked()
	r.expiry = time.AfterFunc(c.cfg.KillGrace, func() { c.breakWith(ignoredCancel) })
}

const ignoredCancel = "did not end a task past its deadline when it was cancelled"

// judgeLocked ends a condemned child that runs nothing but overdue tasks.
func (c *child) judgeLocked() {
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
		r.fetching() // the worker has not heard of it
		return
	}
	c.out.add(func(dst []byte) []byte {
		return protocol.AppendNotification(dst, protocol.MethodCancel, fmt.Appendf(nil, `{"id":%d}`, id))
	})
}

// evict cancels everything that runs in the child and replaces it if that does
// not help within the grace. It returns when nothing of it is running.
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
	for c.holdsAny(old) {
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

func (c *child) holdsAny(ids []int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		if c.running[id] != nil {
			return true
		}
	}
	return false
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

// overdue reports whether a failure is that of a task at its deadline. A worker
// that watches the deadline itself may see it a moment before we do.
func (r *run) overdue(otherwise time.Duration) bool {
	const slack = 10 * time.Millisecond
	limit := r.task.Limit(otherwise)
	return r.expired || (limit > 0 && time.Since(r.started) >= limit-slack)
}

func timedOut(r *run, limit time.Duration) task.Outcome {
	return task.Outcome{
		Conclusion: task.Failed, Reason: "timeout",
		Message: fmt.Sprintf("Task execution timeout: it ran longer than %v", r.task.Limit(limit)),
	}
}

// finish hands a task's outcome on, and then frees its slot: in this order, so
// that the slots in use never hide a task that is nowhere.
func (c *child) finish(r *run, o task.Outcome) {
	c.complete(r, &o)
	c.pool.sink.Add(o)
	c.src.Release(r.place)
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

// endRequests ends what a task that is over has asked: requests that still wait,
// and then what they have left, locks say. It does not wait for that.
func (c *child) endRequests(r *run) {
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

func (c *child) finished(r *run) {
	if r.waiting {
		c.pool.noteWaiting(-1)
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
	places   []task.SlotState
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
	c.pool.sink.AddAll(e.outcomes)
	c.src.ReleaseAll(e.places)
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
		o := task.Outcome{Conclusion: task.Lost, Message: "the worker " + fate, Stderr: c.tail.Text(), Shared: len(left) > 1, Whole: local.Company(c.proc), Exit: exit, HostStops: local.HostStops(c.proc)}
		if told := local.HostHangups(c.proc); told != nil {
			o.HostHangups = told
		}
		switch {
		case r.expired:
			o = timedOut(r, c.cfg.TaskTimeout)
		case asked || expired > 0:
			// Cut short by a stop, or by a neighbour that had to be killed.
			o = task.Outcome{Conclusion: task.Returned, Message: "cut short"}
		default:
			c.unbegun(r, &o, read, quit, answered)
		}
		c.finish(r, o)
	}
}

// unbegun reports whether a task was sent to the child, and the child ended before it
// can have begun it, and says so in o. read is how much the child has read of what was
// written to it; quit and answered say that it exited by itself, and when its last
// answer came.
func (c *child) unbegun(r *run, o *task.Outcome, read int64, quit bool, answered time.Time) bool {
	fate := c.proc.Fate()
	switch {
	case c.fault != "" || o.Whole:
		return false
	case r.end.Load() > read:
		fate += " before it read the task"
	case quit && r.scope == nil && !r.waiting && r.said.At.IsZero() && !r.started.Before(answered) && time.Since(r.started) < quitting:
		// Another thread of it may have read the task.
		fate += " right after an answer"
	default:
		return false
	}
	o.Conclusion, o.Unread, o.Message = task.Returned, true, "the worker "+fate
	return true
}

// endAllRequests ends the requests of a child whose keeper panicked.
func (c *child) endAllRequests() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.running {
		if r.scope != nil {
			r.scope.end()
		}
	}
}
