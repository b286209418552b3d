package rpc

import (
	"bytes"
	"cmp"
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

// read handles every line of the child's stdout until its end. It blocks on the pipe
// only, so that the pipe is always drained.
func (c *child) read(l *stdoutPipe) {
	for {
		if !l.lines.Buffered() { // before a wait for input and before the end
			c.flushOutcomes()
		}
		if len(c.suspects.list) > 0 {
			c.judgeDue(quietAfter)
		}
		line, err := l.lines.Next()
		var long *protocol.TooLongError
		var cut *protocol.UnterminatedError
		switch {
		case err == nil:
			if l.judged > 0 {
				line = l.rest(line)
			}
			c.handleLine(line)
		case errors.Is(err, errQuiet):
			c.handleSilence(l)
		case errors.As(err, &long):
			long.Prefix = l.rest(long.Prefix)
			c.handleTooLong(long)
		case errors.As(err, &cut):
			c.judgeAnswers()
			c.handlePrint(l.rest(cut.Tail))
			c.suspects.list = nil // what ends within a line was cut by the end of the worker
		default:
			c.judgeAnswers()
			c.flushOutcomes()
			if !errors.Is(err, io.EOF) {
				c.log.Debug("worker stdout ended", "error", err)
			}
			return
		}
	}
}

func (c *child) handleLine(line []byte) {
	// The short way for most answers. Not before the answer to initialize, and not for
	// a child that runs one task at a time, whose answers wait for stderr.
	if id, ok := protocol.DecodeSucceeded(line); ok && c.isConcurrent() {
		if r := c.remove(id, true); r != nil {
			c.queueOutcome(r, task.Outcome{Conclusion: task.Succeeded})
			return
		}
	}
	m, err := protocol.DecodeMessage(line)
	if err == nil {
		c.suspects.finder.Passed()
		c.handleMessage(m)
		return
	}
	if marked := protocol.TrimByteOrderMark(line); len(marked) < len(line) {
		c.handleLine(marked)
		return
	}
	if protocol.LooksLikeMessage(line) {
		c.countMisbehaviour("malformed")
		c.handleMalformed(line, err)
		return
	}
	c.handlePrint(line)
}

func (c *child) handleMessage(m protocol.Message) {
	switch {
	case m.IsResponse():
		c.handleResponse(m)
	case m.IsRequest():
		if c.isStarting() {
			c.breakWith(fmt.Sprintf("sent the request %q before it answered initialize", m.Method))
			return
		}
		if len(c.suspects.list) > 0 { // a suspect may be a print of this request
			c.suspects.list = slices.DeleteFunc(c.suspects.list, func(x suspect) bool { return x.request != nil && bytes.Equal(x.request, m.ID) })
		}
		c.handleRequest(m)
	default:
		c.handleNotification(m)
	}
}

func (c *child) handleResponse(m protocol.Message) {
	id, ok := responseID(m.ID)
	if !ok {
		c.handleStray(m, false)
		return
	}
	if id == initializeID {
		if !c.isStarting() {
			c.handleStray(m, true)
			return
		}
		m.Result = bytes.Clone(m.Result) // the reader reuses the buffer of the line
		select {
		case c.answered <- m:
		default:
		}
		return
	}
	if c.limit == 1 {
		if c.takePong(id) {
			return
		}
		c.stderr.awaitHandled(stderrLimit) // the last lines are about this task
	}
	r := c.remove(id, m.Error == nil)
	if r == nil {
		if !c.takePong(id) {
			c.handleStray(m, c.wasUsed(id))
		}
		return
	}
	c.queueOutcome(r, c.outcome(r, m))
}

// stderrLimit bounds how long an answer waits for the stderr lines before it. They are
// at most what fits into a pipe: a log that needs longer is stalled.
const stderrLimit = 5 * time.Second

// takePong reports whether id is that of the ping, and ends the ping.
func (c *child) takePong(id int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id != c.pingID {
		return false
	}
	c.pingID = 0
	return true
}

// outcome returns the outcome of an answer to task/run.
func (c *child) outcome(r *runningTask, m protocol.Message) task.Outcome {
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
	if res.Err != nil && strings.TrimSpace(res.Err.Message) == "" {
		// MemoryError() has no text; the producer would read that nothing is wrong.
		res.Err.Message, res.Err.RawMessage = cmp.Or(res.Err.Type, "the task failed without a message"), nil
	}
	o := c.result(r, res)
	if res.Err != nil {
		o.Stack = workerlog.Text(res.Err.Stack)
	}
	return o
}

// result returns the outcome of a valid result.
func (c *child) result(r *runningTask, res protocol.RunResult) task.Outcome {
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

// handleStray handles a response that no request waits for: a second answer, or an
// unknown id.
func (c *child) handleStray(m protocol.Message, used bool) {
	c.countMisbehaviour("stray")
	c.suspectUnknown(m, used)
	c.log.Warn("unexpected response id", "response_id", string(m.ID))
}

// suspectUnknown adds a suspect for a valid response with an id that no request had
// (P61).
func (c *child) suspectUnknown(m protocol.Message, used bool) {
	switch {
	case m.Error != nil && string(m.ID) == "null":
		c.addSuspect(suspect{
			at: time.Now().Add(quietAfter), among: c.unanswered(), refusal: true,
			why: fmt.Sprintf("the worker answered with the error %d and no id: %s", m.Error.Code, m.Error.Message),
		})
	case used || m.Error != nil:
	default:
		if _, err := protocol.DecodeRunResult(m.Result); err == nil {
			c.addSuspect(suspect{
				at: time.Now().Add(quietAfter), among: c.unanswered(),
				why: "the worker answered with an id that no request had: " + string(m.ID),
			})
		}
	}
}

func (c *child) handleNotification(m protocol.Message) {
	switch m.Method {
	case protocol.MethodDraining:
		c.drain()
	case protocol.MethodLog:
		c.workerLog(m.Params)
	default:
		// Unknown notifications are ignored: they belong to a newer protocol version.
		if c.isStarting() {
			c.breakWith(fmt.Sprintf("sent %q before it answered initialize", m.Method))
			return
		}
		switch m.Method {
		case protocol.MethodWaiting, protocol.MethodResumed:
			c.setWaiting(m.Params, m.Method == protocol.MethodWaiting)
		case protocol.MethodProgress:
			c.progress(m.Params)
		}
	}
}

var levels = map[string]slog.Level{
	"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
}

// workerLog logs a line that the worker sent with $/log. Its fields are kept apart from
// those of the sidecar by their names.
func (c *child) workerLog(params []byte) {
	var p protocol.LogParams
	dec := json.NewDecoder(bytes.NewReader(params))
	dec.UseNumber() // keeps every digit
	if err := dec.Decode(&p); err != nil {
		c.handlePrint(params)
		return
	}
	level := levels[p.Level]
	if !c.log.Enabled(context.Background(), level) {
		return
	}
	attrs := []any{workerlog.Key, workerlog.Text(p.Message)}
	if p.Delivery != "" {
		attrs = append(attrs, c.attrsOf(p.Delivery)...)
	}
	c.log.Log(context.Background(), level, "worker log", workerlog.Merge(attrs, p.Fields)...)
}

// attrsOf returns the log attributes of a task that runs in the child.
func (c *child) attrsOf(delivery string) []any {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.running {
		if r.task.Delivery == delivery {
			return r.task.LogAttrs()
		}
	}
	return []any{"delivery", delivery}
}

// maxProgress is the maximum number of bytes of a progress message that are kept.
const maxProgress = 256

// progress records a $/progress (P42). It drops one that does not parse or whose task
// has ended, because progress is shown to users only.
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
	r.progress.At = time.Now()
	if p.Fraction != nil {
		r.progress.Fraction = min(max(*p.Fraction, 0), 1)
	}
	if p.Message != nil {
		r.progress.Message = *p.Message
		if len(r.progress.Message) > maxProgress {
			r.progress.Message = cutRunes(r.progress.Message, maxProgress) + "…"
		}
	}
}

// cutRunes returns the beginning of a text, at most most bytes long, without half a
// character.
func cutRunes(text string, most int) string {
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return strings.Clone(text[:most])
}

// handlePrint handles a line on stdout that is not a message. Parts of it that were
// meant as messages become suspects.
func (c *child) handlePrint(line []byte) {
	found := c.suspects.finder.Line(line)
	c.addMisframed(found, nil, quietAfter)
	c.logPrint(line)
}

// maxPrintsBeforeAnswer is how many lines that are not messages a worker may print
// before it answers initialize: enough for a banner, too few for the program yes.
const maxPrintsBeforeAnswer = 1000

// logPrint logs and counts a line that is not a message.
func (c *child) logPrint(line []byte) {
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
	c.countMisbehaviour("print")
	c.log.Info("worker stdout", append([]any{"line", text}, c.onlyTaskAttrs()...)...)
}

// handleMalformed handles a line that is meant as a message but is not valid. Other
// messages on the same line are lost.
func (c *child) handleMalformed(line []byte, err error) {
	found := c.suspects.finder.Line(line)
	why := fmt.Sprintf("the worker's answer is not a valid message: %v", err)
	if len(found) > 0 && found[0].Flaw != "" {
		why = "the worker's answer is not a valid message: " + found[0].Flaw
	}
	if len(found) == 0 && c.suspects.finder.Open() {
		if _, ok := protocol.FindID(line[:min(len(line), protocol.IDWindow)]); !ok {
			c.addSuspect(suspect{at: time.Now().Add(quietAfter), fault: true, why: "it is spread over several lines"})
			return
		}
	}
	if len(found) > 0 && protocol.IsTaskRequest(found[0].Method) {
		// A broken request is not an answer, whatever its id.
		c.addMisframed(found, nil, 0)
		return
	}
	first := c.failOrBreak(line, why)
	if first == nil && len(found) > 0 {
		first = found[0].ID
	}
	c.addMisframed(found, first, quietAfter)
}

// failOrBreak fails the task that a broken message belongs to, and returns the id. If
// the task is unknown, the child is replaced: a task would otherwise never end.
func (c *child) failOrBreak(prefix []byte, why string) (id []byte) {
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

// failFor fails a task whose answer does not parse, if the task is still unanswered.
func (c *child) failFor(id int64, why string) bool {
	r := c.remove(id, false)
	if r != nil {
		c.queueOutcome(r, task.Outcome{Conclusion: task.Failed, Reason: "protocol", Message: why})
	}
	return r != nil
}

// handleTooLong handles a line over the length limit, which the line reader has
// skipped.
func (c *child) handleTooLong(e *protocol.TooLongError) {
	c.suspects.skipping = false
	if protocol.LooksLikeMessage(e.Prefix) {
		c.countMisbehaviour("too_long")
		first := c.failOrBreak(e.Prefix, fmt.Sprintf("the worker's answer has %d bytes, more than the %d that are allowed (SIDECAR_MAX_MESSAGE_BYTES)",
			e.Length, c.cfg.MaxMessageBytes))
		// An answer without a line end makes the next one a part of its line.
		c.addSkipped(c.whySkipped(e), first, quietAfter)
		c.suspects.finder.Line(nil)
		return
	}
	c.addSkipped(c.whySkipped(e), nil, quietAfter)
	c.suspects.finder.Line(nil)
	c.logPrint(e.Prefix)
}

func (c *child) whySkipped(e *protocol.TooLongError) string {
	return fmt.Sprintf("its line has %d bytes, more than the %d that are allowed (SIDECAR_MAX_MESSAGE_BYTES)", e.Length, c.cfg.MaxMessageBytes)
}

// handleSkipped searches a part of a line over the length limit for messages, which may
// be anywhere in it.
func (c *child) handleSkipped(part []byte) {
	s := &c.suspects
	if !s.skipping {
		s.skipping = true
		part = part[min(c.stdout.taken, len(part)):]
	}
	if len(s.found) < maxSuspects {
		s.found = append(s.found, s.finder.Part(part)...)
	}
}

// addSkipped adds suspects for what was found in a line over the length limit. also is
// a second reason, beside that of each; ours is the id of one that has been handled.
func (c *child) addSkipped(also string, ours []byte, after time.Duration) {
	found := c.suspects.found
	c.suspects.found = nil
	for i := range found {
		found[i].Flaw = strings.TrimPrefix(found[i].Flaw+", and "+also, ", and ")
	}
	c.addMisframed(found, ours, after)
}

// cutSkipped judges a line over the length limit that has not ended and does not go on.
func (c *child) cutSkipped(l *stdoutPipe) {
	c.addSkipped(fmt.Sprintf("its line has no end and more than the %d bytes that are allowed (SIDECAR_MAX_MESSAGE_BYTES)", c.cfg.MaxMessageBytes), nil, 0)
	// The next answer is then a line of its own.
	c.logPrint(l.rest(l.lines.Partial()))
	c.suspects.finder.Line(nil)
	c.suspects.skipping = false
	l.lines.Cut()
	c.judgeDue(0)
}

// addMisframed adds suspects for the messages that were found in a line that is not a
// valid message. ours is the id of one that has already been handled.
func (c *child) addMisframed(found []protocol.Misframed, ours []byte, after time.Duration) {
	at := time.Now().Add(after)
	for _, m := range found {
		if ours != nil && bytes.Equal(m.ID, ours) {
			continue
		}
		c.suspects.list = slices.DeleteFunc(c.suspects.list, func(x suspect) bool { return x.fault }) // they were the beginning of this message
		flaw := m.Flaw
		if flaw == "" {
			flaw = "it is not valid JSON"
		}
		if m.Method != "" {
			if protocol.IsTaskRequest(m.Method) {
				c.countMisbehaviour("malformed")
				c.addSuspect(suspect{at: at, request: m.ID, why: "the request is not a valid message: " + flaw})
			}
			continue
		}
		why := "the worker's answer is not a valid message: " + flaw
		id, ok := responseID(m.ID)
		switch {
		case ok && c.awaits(id):
			c.countMisbehaviour("malformed")
			if !c.takePong(id) {
				c.addSuspect(suspect{at: at, id: id, why: why})
			}
		case ok && c.wasUsed(id) || !m.Outcome:
			// The request has been answered, or the message is not about a task.
		default:
			c.countMisbehaviour("malformed")
			c.addSuspect(suspect{at: at, among: c.unanswered(), why: why + "; its id is " + idText(m.ID)})
		}
	}
}

// addSuspect adds a suspect. If there is an equal one, only its tasks are added.
func (c *child) addSuspect(x suspect) {
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

// awaits reports whether a request with that id is unanswered.
func (c *child) awaits(id int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if id == initializeID {
		return c.limit == 0
	}
	r := c.running[id]
	return r != nil && r.fetching == nil || id != 0 && id == c.pingID
}

// wasUsed reports whether a request has had that id.
func (c *child) wasUsed(id int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return id >= initializeID && id < c.nextID
}

// unanswered returns the ids of the tasks that the worker has and has not answered.
func (c *child) unanswered() (ids []int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, r := range c.running {
		if r.fetching == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// judgeDue judges the suspects whose time plus grace is over. The grace is for lines
// that arrive without a pause.
func (c *child) judgeDue(grace time.Duration) {
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

// judgeAnswers judges the answers among the suspects at the end of stdout, behind which no
// valid answer comes. A worker that ended within the time of a suspect once made a task run
// again that it had answered in a wrong form.
func (c *child) judgeAnswers() {
	for _, x := range c.suspects.list {
		if x.id != 0 && x.id != initializeID {
			c.judgeOne(x)
		}
	}
}

func (c *child) judgeOne(x suspect) {
	switch {
	case x.request != nil:
		c.refuse(x.request, protocol.Errorf(protocol.CodeInvalidRequest, "%s", x.why))
	case x.id == initializeID:
		if c.isStarting() {
			c.breakWith("answered initialize in a form that cannot be read: " + x.why)
		}
	case x.id != 0:
		c.failFor(x.id, x.why)
	case x.fault:
		c.breakWith("sent a message that cannot be read: " + x.why)
	case c.isStarting():
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
			if r := c.remove(left[0], false); r != nil {
				c.queueOutcome(r, task.Outcome{Conclusion: task.Lost, Reason: "protocol", Stderr: c.tail.Text(), Message: x.why})
			}
		case len(left) == 1:
			c.failFor(left[0], x.why)
		}
	}
}

// handleSilence judges the unfinished line and the suspects when no more output
// arrives.
func (c *child) handleSilence(l *stdoutPipe) {
	if len(c.suspects.found) > 0 {
		c.cutSkipped(l)
		return
	}
	all := l.lines.Partial()
	part := all[min(l.taken, len(all)):]
	switch grew := len(all) > l.judged; {
	case grew && len(bytes.TrimSpace(part)) > 0:
		l.judged, l.since = len(all), time.Now()
		c.judgePartialLine(l, part)
	case grew:
		l.judged, l.since = len(all), time.Now()
	case len(part) > 0 && !l.stalled && l.stall > 0 && time.Since(l.since) >= l.stall:
		l.stalled = true
		c.judgeStalled(l, part)
	}
	c.judgeDue(0)
}

// judgePartialLine judges the beginning of a line that does not go on. A complete
// message is handled as one: a worker that gets little processor time may pause before
// it writes the line end.
func (c *child) judgePartialLine(l *stdoutPipe, part []byte) {
	f := &c.suspects.finder
	m, err := protocol.DecodeMessage(protocol.TrimByteOrderMark(bytes.TrimSpace(part)))
	if err == nil && !f.Header() {
		l.taken = l.judged
		if !c.suspects.warned {
			c.suspects.warned = true
			c.countMisbehaviour("malformed")
			c.log.Warn("worker message without a line end: taken after a pause", "pause", quietAfter.String())
		}
		c.handleMessage(m)
		return
	}
	if f.Ends(part) {
		l.taken = l.judged
		f.Line(part)
		return
	}
	if found := f.Tail(part); len(found) > 0 {
		l.taken = l.judged
		c.addMisframed(found, nil, 0)
	}
}

// judgeStalled judges a message that has begun and does not go on (P62).
func (c *child) judgeStalled(l *stdoutPipe, part []byte) {
	if !protocol.LooksLikeMessage(part) {
		return // such as a prompt, or a progress bar
	}
	c.countMisbehaviour("malformed")
	why := fmt.Sprintf("the worker began a message and did not end it within %v", l.stall)
	if raw, ok := protocol.FindID(part[:min(len(part), protocol.IDWindow)]); ok {
		if id, ok := responseID(raw); ok && c.failFor(id, why) {
			l.taken = l.judged
			return
		}
	}
	c.breakWith("sent a message that cannot be read: " + why)
}
