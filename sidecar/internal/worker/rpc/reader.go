package rpc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/workerlog"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
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
			c.ends(r, task.Outcome{Kind: task.Succeeded})
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
	c.log.Warn("unexpected response id", "id", string(m.ID))
}

// outcome reads the answer to a task/run.
func (c *child) outcome(r *run, m protocol.Message) task.Outcome {
	if m.Error != nil {
		switch {
		case r.expired && m.Error.Code == protocol.CodeCancelled:
			return timedOut(r, c.cfg.TaskTimeout)
		case m.Error.Code == protocol.CodeNotStarted, m.Error.Code == protocol.CodeCancelled:
			return task.Outcome{Kind: task.Returned, Message: m.Error.Message}
		}
		return task.Outcome{
			Kind: task.Lost, Reason: "protocol", Stderr: c.tail.Text(),
			Message: fmt.Sprintf("the worker answered with the error %d: %s", m.Error.Code, m.Error.Message),
		}
	}
	res, err := protocol.DecodeRunResult(m.Result)
	if err != nil {
		return task.Outcome{Kind: task.Failed, Reason: "protocol", Message: fmt.Sprintf("the worker's answer cannot be read: %v", err)}
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
		return task.Outcome{Kind: task.Succeeded, Value: []byte(res.ValueText)}
	case res.Err == nil:
		return task.Outcome{Kind: task.Succeeded, Value: bytes.Clone(res.Value)}
	case r.overdue(c.cfg.TaskTimeout):
		return timedOut(r, c.cfg.TaskTimeout)
	case c.isCut():
		return task.Outcome{Kind: task.Returned, Message: "cut short: " + res.Err.Message}
	case res.Err.Retryable:
		return task.Outcome{Kind: task.Retry, Reason: res.Err.Type, Message: res.Err.Message, Stderr: c.tail.Text()}
	default:
		return task.Outcome{
			Kind: task.Failed, Reason: res.Err.Type,
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
