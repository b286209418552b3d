package rpc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/workerlog"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// read handles every line of the child's stdout until its end. It never
// blocks on anything but the pipe, so both pipes are always drained.
func (c *child) read(l *listener) {
	for {
		if !l.lines.Buffered() { // and so before the end, too
			c.handOn()
		}
		if len(c.suspects.list) > 0 {
			c.judge(quietAfter)
		}
		line, err := l.lines.Next()
		var long *protocol.TooLongError
		var cut *protocol.UnterminatedError
		switch {
		case err == nil:
			if l.judged > 0 {
				line = l.rest(line)
			}
			c.line(line)
		case errors.Is(err, errQuiet):
			c.quiet(l)
		case errors.As(err, &long):
			long.Prefix = l.rest(long.Prefix)
			c.tooLong(long)
		case errors.As(err, &cut):
			c.print(l.rest(cut.Tail))
		default:
			if !errors.Is(err, io.EOF) {
				c.log.Debug("worker stdout ended", "error", err)
			}
			return
		}
	}
}

func (c *child) line(line []byte) {
	// Before a worker has said what it is, nothing is an answer to a task, and in
	// one that runs one task at a time an answer waits for the lines before it.
	if id, ok := protocol.DecodeSucceeded(line); ok && c.several() {
		if r := c.end(id, true); r != nil {
			c.ends(r, task.Outcome{Conclusion: task.Succeeded})
			return
		}
	}
	m, err := protocol.DecodeMessage(line)
	if err == nil {
		c.suspects.finder.Passed()
		c.message(m)
		return
	}
	if marked := protocol.TrimByteOrderMark(line); len(marked) < len(line) {
		c.line(marked)
		return
	}
	if protocol.LooksLikeMessage(line) {
		c.misbehaved("malformed")
		c.malformed(line, err)
		return
	}
	c.print(line)
}

// malformed takes a line that is meant as a message and is none. Other messages
// on the same line are lost with it.
func (c *child) malformed(line []byte, err error) {
	found := c.suspects.finder.Line(line)
	why := fmt.Sprintf("the worker's answer is not a valid message: %v", err)
	if len(found) > 0 && found[0].Flaw != "" {
		why = "the worker's answer is not a valid message: " + found[0].Flaw
	}
	if len(found) == 0 && c.suspects.finder.Open() {
		if _, ok := protocol.FindID(line[:min(len(line), protocol.IDWindow)]); !ok {
			c.suspect(suspect{at: time.Now().Add(quietAfter), fault: true, why: "it is spread over several lines"})
			return
		}
	}
	if len(found) > 0 && protocol.IsTaskRequest(found[0].Method) {
		// A broken request is about no answer, whatever its id.
		c.look(found, nil, 0)
		return
	}
	first := c.faulty(line, why)
	if first == nil && len(found) > 0 {
		first = found[0].ID
	}
	c.look(found, first, quietAfter)
}

// faulty fails the task that a broken message belongs to, and returns the id. Where
// that cannot be told the child is replaced: some task would wait for ever.
func (c *child) faulty(prefix []byte, why string) (id []byte) {
	raw, ok := protocol.FindID(prefix)
	if ok {
		if id, ok := responseID(raw); ok && c.failFor(id, why) {
			return raw
		}
	}
	c.log.Warn("malformed message from the worker", "error", why)
	c.breakWith("sent a message that cannot be read: " + why)
	return nil
}

func (c *child) message(m protocol.Message) {
	switch {
	case m.IsResponse():
		c.response(m)
	case m.IsRequest():
		if c.starting() {
			c.breakWith(fmt.Sprintf("sent the request %q before it answered initialize", m.Method))
			return
		}
		if len(c.suspects.list) > 0 { // the print of this request, maybe
			c.suspects.list = slices.DeleteFunc(c.suspects.list, func(x suspect) bool { return x.request != nil && bytes.Equal(x.request, m.ID) })
		}
		c.takeRequest(m)
	default:
		c.notification(m)
	}
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

func (c *child) response(m protocol.Message) {
	id, ok := responseID(m.ID)
	if !ok {
		c.stray(m, false)
		return
	}
	if id == initializeID {
		if !c.starting() {
			c.stray(m, true)
			return
		}
		m.Result = bytes.Clone(m.Result) // the line is the reader's
		select {
		case c.answered <- m:
		default:
		}
		return
	}
	if c.limit == 1 {
		if c.ponged(id) {
			return
		}
		c.stderr.settle(settleLimit) // its last lines are about this task
	}
	r := c.end(id, m.Error == nil)
	if r == nil {
		if !c.ponged(id) {
			c.stray(m, c.wasUsed(id))
		}
		return
	}
	c.ends(r, c.outcome(r, m))
}

// ponged takes the answer to a ping.
func (c *child) ponged(id int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id != c.pingID {
		return false
	}
	c.pingID = 0
	return true
}

// settleLimit bounds how long an answer waits for the lines before it, which
// are at most what a pipe holds: a log that takes longer for that is stuck.
const settleLimit = 5 * time.Second

// stray is an answer to nothing: a second answer, or an unknown id.
func (c *child) stray(m protocol.Message, used bool) {
	c.misbehaved("stray")
	c.unknown(m, used)
	c.log.Warn("unexpected response id", "response_id", string(m.ID))
}

// outcome reads the answer to a task/run.
func (c *child) outcome(r *run, m protocol.Message) task.Outcome {
	if m.Error != nil {
		switch {
		case r.expired && m.Error.Code == protocol.CodeCancelled:
			return timedOut(r, c.cfg.TaskTimeout)
		case m.Error.Code == protocol.CodeNotStarted, m.Error.Code == protocol.CodeCancelled:
			return task.Outcome{Conclusion: task.Returned, Message: m.Error.Message}
		}
		return task.Outcome{
			Conclusion: task.Lost, Reason: "protocol", Stderr: c.tail.Text(),
			Message: fmt.Sprintf("the worker answered with the error %d: %s", m.Error.Code, m.Error.Message),
		}
	}
	res, err := protocol.DecodeRunResult(m.Result)
	if err != nil {
		return task.Outcome{Conclusion: task.Failed, Reason: "protocol", Message: fmt.Sprintf("the worker's answer cannot be read: %v", err)}
	}
	o := c.result(r, res)
	if res.Err != nil {
		o.Stack = workerlog.Text(res.Err.Stack)
	}
	return o
}

// result is the outcome of a task whose answer could be read.
func (c *child) result(r *run, res protocol.RunResult) task.Outcome {
	switch {
	case res.Err == nil && res.ValueText != "":
		return task.Outcome{Conclusion: task.Succeeded, Value: []byte(res.ValueText)}
	case res.Err == nil:
		return task.Outcome{Conclusion: task.Succeeded, Value: bytes.Clone(res.Value)}
	case r.overdue(c.cfg.TaskTimeout):
		return timedOut(r, c.cfg.TaskTimeout)
	case c.isCut():
		return task.Outcome{Conclusion: task.Returned, Message: "cut short: " + res.Err.Message}
	case res.Err.Retryable:
		return task.Outcome{Conclusion: task.Retry, Reason: res.Err.Type, Message: res.Err.Message, Stderr: c.tail.Text()}
	default:
		return task.Outcome{
			Conclusion: task.Failed, Reason: res.Err.Type,
			Message: res.Err.Message, MessageJSON: bytes.Clone(res.Err.RawMessage),
		}
	}
}

func (c *child) notification(m protocol.Message) {
	switch m.Method {
	case protocol.MethodDraining:
		c.goes()
	case protocol.MethodLog:
		c.workerLog(m.Params)
	default:
		// Notifications of a newer protocol version have no receiver here.
		if c.starting() {
			c.breakWith(fmt.Sprintf("sent %q before it answered initialize", m.Method))
			return
		}
		switch m.Method {
		case protocol.MethodWaiting, protocol.MethodResumed:
			c.waits(m.Params, m.Method == protocol.MethodWaiting)
		case protocol.MethodProgress:
			c.progress(m.Params)
		}
	}
}

// maxPrintsBeforeAnswer is how many lines that are no messages a worker may
// print before it answers initialize: a banner is fine, `yes` is not a worker.
const maxPrintsBeforeAnswer = 1000

// print takes a line on stdout that is no message but a print. What in it was
// meant as a message is a suspect.
func (c *child) print(line []byte) {
	found := c.suspects.finder.Line(line)
	c.look(found, nil, quietAfter)
	c.printed(line)
}

// printed logs and counts a print.
func (c *child) printed(line []byte) {
	blank := len(bytes.TrimSpace(line)) == 0
	text := workerlog.Text(strings.ToValidUTF8(string(local.LastState(line)), "\uFFFD"))
	c.mu.Lock()
	c.prints++
	if c.firstLine == "" {
		c.firstLine = text
	}
	flood := c.prints > maxPrintsBeforeAnswer && c.limit == 0
	c.mu.Unlock()
	if flood {
		c.breakWith("printed " + strconv.Itoa(maxPrintsBeforeAnswer) + " lines and no answer to initialize")
		return
	}
	if blank {
		return
	}
	c.misbehaved("print")
	c.log.Info("worker stdout", append([]any{"line", text}, c.only()...)...)
}

// tooLong takes a line over the limit, which has been skipped.
func (c *child) tooLong(e *protocol.TooLongError) {
	c.suspects.skipping = false
	if protocol.LooksLikeMessage(e.Prefix) {
		c.misbehaved("too_long")
		c.faulty(e.Prefix, fmt.Sprintf("the worker's answer has %d bytes, more than the %d that are allowed (SIDECAR_MAX_MESSAGE_BYTES)",
			e.Length, c.cfg.MaxMessageBytes))
		return
	}
	c.lookSkipped(fmt.Sprintf("its line has %d bytes, more than the %d that are allowed (SIDECAR_MAX_MESSAGE_BYTES)", e.Length, c.cfg.MaxMessageBytes), quietAfter)
	c.suspects.finder.Line(nil)
	c.printed(e.Prefix)
}

// skipped looks at a part of a line over the limit: an answer may stand anywhere in it.
func (c *child) skipped(part []byte) {
	s := &c.suspects
	if !s.skipping {
		s.skipping = true
		part = part[min(c.stdout.taken, len(part)):]
		s.message = protocol.LooksLikeMessage(part[:min(len(part), protocol.IDWindow)])
	}
	if !s.message && len(s.found) < maxSuspects {
		s.found = append(s.found, s.finder.Part(part)...)
	}
}

// lookSkipped keeps what was found in such a line. also says what else is wrong.
func (c *child) lookSkipped(also string, after time.Duration) {
	found := c.suspects.found
	c.suspects.found = nil
	for i := range found {
		found[i].Flaw = strings.TrimPrefix(found[i].Flaw+", and "+also, ", and ")
	}
	c.look(found, nil, after)
}

// cutSkipped judges what was found in a line over the limit after which nothing comes.
func (c *child) cutSkipped(l *listener) {
	c.lookSkipped(fmt.Sprintf("its line has no end and more than the %d bytes that are allowed (SIDECAR_MAX_MESSAGE_BYTES)", c.cfg.MaxMessageBytes), 0)
	// Nor will it have one before the next answer, which is then a line of its own.
	c.printed(l.rest(l.lines.Partial()))
	c.suspects.finder.Line(nil)
	c.suspects.skipping = false
	l.lines.Cut()
	c.judge(0)
}

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

// workerLog is a line that a worker has logged by the protocol. What it says of
// itself stands beside what the sidecar says, by its own names.
func (c *child) workerLog(params []byte) {
	var p protocol.LogParams
	dec := json.NewDecoder(bytes.NewReader(params))
	dec.UseNumber() // digit for digit
	if err := dec.Decode(&p); err != nil {
		c.print(params)
		return
	}
	level := levels[p.Level]
	if !c.log.Enabled(context.Background(), level) {
		return
	}
	attrs := []any{workerlog.Key, workerlog.Text(p.Message)}
	if p.Delivery != "" {
		attrs = append(attrs, c.naming(p.Delivery)...)
	}
	c.log.Log(context.Background(), level, "worker log", workerlog.Merge(attrs, p.Fields)...)
}

// naming are the attributes that name a task which runs here.
func (c *child) naming(delivery string) []any {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.running {
		if r.task.Delivery == delivery {
			return r.task.LogAttrs()
		}
	}
	return []any{"delivery", delivery}
}

// maxProgress is how many bytes of a progress message are kept.
const maxProgress = 256

// progress notes how far a task is (P42). What cannot be read, or is about a
// task that has ended, is dropped: it is for people only.
func (c *child) progress(params []byte) {
	var p struct {
		Delivery string   `json:"delivery"`
		Fraction *float64 `json:"fraction"`
		Message  *string  `json:"message"`
	}
	if json.Unmarshal(params, &p) != nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.runOfLocked(p.Delivery)
	if r == nil {
		return
	}
	r.said.At = time.Now()
	if p.Fraction != nil {
		r.said.Fraction = min(max(*p.Fraction, 0), 1)
	}
	if p.Message != nil {
		r.said.Message = *p.Message
		if len(r.said.Message) > maxProgress {
			r.said.Message = cutRunes(r.said.Message, maxProgress) + "…"
		}
	}
}

// cutRunes is the beginning of a text, most bytes at the longest, and no half of
// a character.
func cutRunes(text string, most int) string {
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return strings.Clone(text[:most])
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

// forget takes an answered request off the count.
func (c *child) forget(size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened.requests--
	c.opened.bytes -= size
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
