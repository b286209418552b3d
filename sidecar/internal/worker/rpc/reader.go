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

// settleLimit bounds how long an answer waits for the lines before it, which
// are at most what a pipe holds: a log that takes longer for that is stuck.
const settleLimit = 5 * time.Second

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

// stray is an answer to nothing: a second answer, or an unknown id.
func (c *child) stray(m protocol.Message, used bool) {
	c.misbehaved("stray")
	c.unknown(m, used)
	c.log.Warn("unexpected response id", "response_id", string(m.ID))
}

// unknown takes a valid response to something that was never asked (P61).
func (c *child) unknown(m protocol.Message, used bool) {
	switch {
	case m.Error != nil && string(m.ID) == "null":
		c.suspect(suspect{
			at: time.Now().Add(quietAfter), among: c.sent(), refusal: true,
			why: fmt.Sprintf("the worker answered with the error %d and no id: %s", m.Error.Code, m.Error.Message),
		})
	case used || m.Error != nil:
	default:
		if _, err := protocol.DecodeRunResult(m.Result); err == nil {
			c.suspect(suspect{
				at: time.Now().Add(quietAfter), among: c.sent(),
				why: "the worker answered with an id that no request had: " + string(m.ID),
			})
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

// print takes a line on stdout that is no message but a print. What in it was
// meant as a message is a suspect.
func (c *child) print(line []byte) {
	found := c.suspects.finder.Line(line)
	c.look(found, nil, quietAfter)
	c.printed(line)
}

// maxPrintsBeforeAnswer is how many lines that are no messages a worker may
// print before it answers initialize: a banner is fine, `yes` is not a worker.
const maxPrintsBeforeAnswer = 1000

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

// failFor fails a task whose answer cannot be read, if it still waits for one.
func (c *child) failFor(id int64, why string) bool {
	r := c.end(id, false)
	if r != nil {
		c.ends(r, task.Outcome{Conclusion: task.Failed, Reason: "protocol", Message: why})
	}
	return r != nil
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

// look keeps what in a line that is no message was meant as one. ours is the id of
// one that has been dealt with.
func (c *child) look(found []protocol.Misframed, ours []byte, after time.Duration) {
	at := time.Now().Add(after)
	for _, m := range found {
		if ours != nil && bytes.Equal(m.ID, ours) {
			continue
		}
		c.suspects.list = slices.DeleteFunc(c.suspects.list, func(x suspect) bool { return x.fault }) // it was the beginning of this
		flaw := m.Flaw
		if flaw == "" {
			flaw = "it is not valid JSON"
		}
		if m.Method != "" {
			if protocol.IsTaskRequest(m.Method) {
				c.misbehaved("malformed")
				c.suspect(suspect{at: at, request: m.ID, why: "the request is not a valid message: " + flaw})
			}
			continue
		}
		why := "the worker's answer is not a valid message: " + flaw
		id, ok := responseID(m.ID)
		switch {
		case ok && c.awaits(id):
			c.misbehaved("malformed")
			if !c.ponged(id) {
				c.suspect(suspect{at: at, id: id, why: why})
			}
		case ok && c.wasUsed(id) || !m.Outcome:
			// It was answered, or it is not about a task.
		default:
			c.misbehaved("malformed")
			c.suspect(suspect{at: at, among: c.sent(), why: why + "; its id is " + idText(m.ID)})
		}
	}
}

// suspect keeps one. One that is like another adds to it what it is about.
func (c *child) suspect(x suspect) {
	list := c.suspects.list
	i := slices.IndexFunc(list, func(y suspect) bool {
		return x.id == y.id && bytes.Equal(x.request, y.request) && x.fault == y.fault
	})
	switch {
	case i >= 0:
		for _, id := range x.among {
			if !slices.Contains(list[i].among, id) {
				list[i].among = append(list[i].among, id)
			}
		}
	case x.request == nil || len(list) < maxSuspects:
		c.suspects.list = append(list, x)
	}
}

// awaits reports whether a request of that id is unanswered.
func (c *child) awaits(id int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == initializeID {
		return c.limit == 0
	}
	r := c.running[id]
	return r != nil && r.fetching == nil || id != 0 && id == c.pingID
}

// wasUsed reports whether the sidecar has given that id to a request.
func (c *child) wasUsed(id int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return id >= initializeID && id < c.nextID
}

// sent lists the tasks that the worker has and has not answered.
func (c *child) sent() (ids []int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, r := range c.running {
		if r.fetching == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// judge judges those that are due. Where lines keep coming without a pause, they
// have had enough time after twice as long.
func (c *child) judge(grace time.Duration) {
	now := time.Now().Add(-grace)
	due := make([]suspect, 0, len(c.suspects.list))
	c.suspects.list = slices.DeleteFunc(c.suspects.list, func(x suspect) bool {
		over := !now.Before(x.at)
		if over {
			due = append(due, x)
		}
		return over
	})
	for _, x := range due {
		c.judgeOne(x)
	}
}

func (c *child) judgeOne(x suspect) {
	switch {
	case x.request != nil:
		c.refuse(x.request, protocol.Errorf(protocol.CodeInvalidRequest, "%s", x.why))
	case x.id == initializeID:
		if c.starting() {
			c.breakWith("answered initialize in a form that cannot be read: " + x.why)
		}
	case x.id != 0:
		c.failFor(x.id, x.why)
	case x.fault:
		c.breakWith("sent a message that cannot be read: " + x.why)
	case c.starting():
		c.breakWith("sent an answer that is not the one to initialize: " + x.why)
	default:
		left := x.among[:0]
		for _, id := range x.among {
			if c.awaits(id) {
				left = append(left, id)
			}
		}
		switch {
		case len(left) > 1:
			c.breakWith(fmt.Sprintf("sent an answer that belongs to one of %d tasks: %s", len(left), x.why))
		case len(left) == 1 && x.refusal:
			if r := c.end(left[0], false); r != nil {
				c.ends(r, task.Outcome{Conclusion: task.Lost, Reason: "protocol", Stderr: c.tail.Text(), Message: x.why})
			}
		case len(left) == 1:
			c.failFor(left[0], x.why)
		}
	}
}

// quiet judges what is there when nothing more comes.
func (c *child) quiet(l *listener) {
	if len(c.suspects.found) > 0 {
		c.cutSkipped(l)
		return
	}
	all := l.lines.Partial()
	part := all[min(l.taken, len(all)):]
	switch grew := len(all) > l.judged; {
	case grew && len(bytes.TrimSpace(part)) > 0:
		l.judged, l.since = len(all), time.Now()
		c.quietPart(l, part)
	case grew:
		l.judged, l.since = len(all), time.Now()
	case len(part) > 0 && !l.stalled && l.stall > 0 && time.Since(l.since) >= l.stall:
		l.stalled = true
		c.stalledIn(l, part)
	}
	c.judge(0)
}

// quietPart judges the beginning of a line after which nothing came. A whole
// message is taken as one: a worker that is short of processor time may pause
// before it writes the line end.
func (c *child) quietPart(l *listener, part []byte) {
	f := &c.suspects.finder
	m, err := protocol.DecodeMessage(protocol.TrimByteOrderMark(bytes.TrimSpace(part)))
	if err == nil && !f.Header() {
		l.taken = l.judged
		if !c.suspects.warned {
			c.suspects.warned = true
			c.misbehaved("malformed")
			c.log.Warn("worker message without a line end: taken after a pause", "pause", quietAfter.String())
		}
		c.message(m)
		return
	}
	if f.Ends(part) {
		l.taken = l.judged
		f.Line(part)
		return
	}
	if found := f.Tail(part); len(found) > 0 {
		l.taken = l.judged
		c.look(found, nil, 0)
	}
}

// stalledIn judges a message that has begun and does not go on (P62).
func (c *child) stalledIn(l *listener, part []byte) {
	if !protocol.LooksLikeMessage(part) {
		return // a prompt, or a progress bar
	}
	c.misbehaved("malformed")
	why := fmt.Sprintf("the worker began a message and did not end it within %v", l.stall)
	if raw, ok := protocol.FindID(part[:min(len(part), protocol.IDWindow)]); ok {
		if id, ok := responseID(raw); ok && c.failFor(id, why) {
			l.taken = l.judged
			return
		}
	}
	c.breakWith("sent a message that cannot be read: " + why)
}
