package process

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/subproc"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// maxPrintsBeforeAnswer is how many lines that are no messages a worker may
// print before it answers initialize: a banner is fine, `yes` is not a worker.
const maxPrintsBeforeAnswer = 1000

// read handles every line of the child's stdout until its end. It never
// blocks on anything but the pipe, so both pipes are always drained.
func (c *child) read(r io.Reader) {
	lines := protocol.NewLineReader(r, c.cfg.MaxMessageBytes)
	for {
		if !lines.Buffered() { // and so before the end, too
			c.handOn()
		}
		line, err := lines.Next()
		var long *protocol.TooLongError
		var cut *protocol.UnterminatedError
		switch {
		case err == nil:
			c.line(line)
		case errors.As(err, &long):
			c.tooLong(long)
		case errors.As(err, &cut):
			c.print(cut.Tail)
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
	switch {
	case err == nil:
		c.message(m)
	case protocol.LooksLikeMessage(line):
		c.misbehaved("malformed")
		c.malformed(line, fmt.Sprintf("the worker's answer is not a valid message: %v", err))
	default:
		c.print(line)
	}
}

func (c *child) tooLong(e *protocol.TooLongError) {
	if protocol.LooksLikeMessage(e.Prefix) {
		c.misbehaved("too_long")
		c.malformed(e.Prefix, fmt.Sprintf("the worker's answer has %d bytes, more than the %d that are allowed (SIDECAR_MAX_MESSAGE_BYTES)",
			e.Length, c.cfg.MaxMessageBytes))
		return
	}
	c.print(e.Prefix)
}

// print takes a line on stdout that is no message: somebody's print.
func (c *child) print(line []byte) {
	text := strings.ToValidUTF8(string(line[:min(len(line), subproc.MaxLogLine)]), "\uFFFD")
	c.misbehaved("print")
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
	c.log.Info("worker stdout", append([]any{"line", text}, c.only()...)...)
}

// malformed fails the task that a broken message belongs to. Where that cannot
// be told the child is replaced: some task would wait for ever.
func (c *child) malformed(prefix []byte, why string) {
	if raw, ok := protocol.FindID(prefix); ok {
		if id, err := strconv.ParseInt(string(raw), 10, 64); err == nil {
			if r := c.end(id, false); r != nil {
				c.ends(r, task.Outcome{Kind: task.Failed, Reason: "protocol", Message: why})
				return
			}
		}
	}
	c.log.Warn("malformed message from the worker", "error", why)
	c.breakWith("sent a message that cannot be read: " + why)
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
		c.ask(m)
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
	id, err := strconv.ParseInt(string(m.ID), 10, 64)
	if err != nil {
		c.stray(m)
		return
	}
	if id == initializeID {
		if !c.starting() {
			c.stray(m)
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
			c.stray(m)
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
func (c *child) stray(m protocol.Message) {
	c.misbehaved("stray")
	c.log.Warn("worker answered what was not asked, or twice: ignored", "id", string(m.ID))
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
	if err == nil && res.Err != nil && res.Err.Stack != "" {
		c.log.Info("stack of a failed task", append(r.task.LogAttrs(), "stack", res.Err.Stack)...)
	}
	switch {
	case err != nil:
		return task.Outcome{Kind: task.Failed, Reason: "protocol", Message: fmt.Sprintf("the worker's answer cannot be read: %v", err)}
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
		// Whatever a newer worker sends is for nobody here.
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
