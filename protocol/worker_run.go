package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"time"
)

// run is a runner: it does one task after the other, in the order they came,
// and ends when it is not needed any more.
func (s *server) run() {
	var j *job
	finished := false
	defer func() {
		// A handler that calls runtime.Goexit takes this goroutine with it,
		// but not its place.
		if !finished {
			s.answered(j)
			go s.run()
		}
	}()
	yielded := time.Now()
	more := false
	for j, more = s.next(nil); j != nil; j, more = s.next(j) {
		// An answer may be waiting to be written, and a handler may keep the
		// only processor busy for long.
		if more {
			if now := time.Now(); now.Sub(yielded) > yieldAfter {
				runtime.Gosched()
				yielded = now
			}
		}
		s.do(j)
	}
	finished = true
}

const (
	// yieldAfter is how long a runner goes from one short task to the next before
	// it lets others have the processor, such as the goroutine that writes.
	yieldAfter = 50 * time.Microsecond
	// maxParked is how many runners wait for tasks: they know theirs a while
	// sooner than new ones, whose stacks have yet to grow.
	maxParked = 8
)

// next ends a runner's last task, if it had one, and waits for the next one; nil
// is none, and the runner is no more. more says that others are unanswered.
func (s *server) next(last *job) (j *job, more bool) {
	spawn := false
	s.update(func(st *state) {
		if last != nil {
			delete(st.jobs, last.id)
		} else {
			st.called = false
		}
		for len(st.queue) == 0 {
			if st.closed || st.parked >= maxParked {
				st.running--
				return
			}
			s.leaveLocked()
			st.running--
			st.parked++
			for st.calls == 0 && !st.closed {
				s.work.Wait()
			}
			st.parked--
			if st.calls == 0 {
				return // closed
			}
			st.calls--
			st.called = false
		}
		j, st.queue = st.queue[0], st.queue[1:]
		j.ctx.init(s.base, j.task.Deadline)
		j.started = true
		more = len(st.jobs) > 1
		spawn = s.callLocked(st)
	})
	if spawn {
		go s.run()
	}
	return j, more
}

// callLocked calls a runner for the head of the queue, if there may be one more.
// One is called at a time, and calls the next one when it has come: of many short
// tasks, each runner does several. It reports whether the caller is to start one.
func (s *server) callLocked(st *state) (spawn bool) {
	if len(st.queue) == 0 || st.called || st.running >= s.opts.concurrency {
		return false
	}
	st.called = true
	st.running++
	if st.parked == st.calls {
		return true
	}
	st.calls++
	s.work.Signal()
	return false
}

// dismiss ends the runners that wait for tasks.
func (s *server) dismiss() {
	s.update(func(st *state) { st.closed = true })
	s.work.Broadcast()
}

// do runs one task and answers it, whatever the handler does.
func (s *server) do(j *job) {
	defer j.ctx.end()
	result := failed("runtime.Goexit", "the handler ended its goroutine")
	var err error
	defer func() {
		if v := recover(); v != nil {
			err = nil
			result = failed("panic", fmt.Sprintf("panic: %v", v))
			result.Err.Stack = string(debug.Stack())
		}
		s.answer(j, result, err)
	}()
	var value any
	if value, err = s.handler(&j.ctx, &j.task); err == nil {
		result = encode(value)
	} else {
		result = failure(err)
	}
}

// answer sends the one response to a task (P22). The runner takes it out of the
// state then.
func (s *server) answer(j *job, r RunResult, err error) {
	j.task.ended.Store(true)
	if err != nil && j.canceled.Load() {
		s.sendError([]byte(j.id), Errorf(CodeCancelled, "%s", errorText(err)))
	} else if !s.send(j.id, r) {
		s.send(j.id, smaller(r, s.out.limit()))
	}
}

func (s *server) send(id string, r RunResult) bool {
	return s.out.put(func(dst []byte) []byte {
		dst = append(dst, `{"jsonrpc":"2.0","id":`...)
		dst = append(dst, id...)
		dst = append(dst, `,"result":`...)
		return append(AppendRunResult(dst, r), '}')
	})
}

func failed(kind, message string) RunResult {
	return RunResult{Status: StatusFailed, Err: &TaskError{Type: kind, Message: message}}
}

// failure makes a failed task of a handler's error.
func failure(err error) RunResult {
	r := failed(errorType(err), errorText(err))
	var retry *retryableError
	r.Err.Retryable = errors.As(err, &retry)
	return r
}

// errorText guards against an Error method that panics, such as that of a nil
// pointer in a non-nil error: the task has failed either way.
func errorText(err error) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text = fmt.Sprintf("%T, whose Error method panicked: %v", err, v)
		}
	}()
	return err.Error()
}

// errorType names the first type in the chain that says something: not the
// wrappings of fmt, errors and Retryable.
func errorType(err error) string {
	for ; err != nil; err = errors.Unwrap(err) {
		switch name := strings.TrimPrefix(fmt.Sprintf("%T", err), "*"); name {
		case "errors.errorString", "fmt.wrapError", "fmt.wrapErrors", "errors.joinError", "protocol.retryableError":
		default:
			return name
		}
	}
	return "error"
}

// encode makes a result of a handler's value. One that JSON cannot hold is a
// failed task, never a broken line; one that other readers would garble travels
// as text (P25).
func encode(value any) RunResult {
	var raw []byte
	switch v := value.(type) {
	case nil:
	case json.RawMessage:
		raw = v
	default:
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		if err := e.Encode(v); err != nil {
			return failed("ValueError", fmt.Sprintf("the task's value cannot be written as JSON: %v", err))
		}
		raw = bytes.TrimSuffix(b.Bytes(), []byte("\n"))
	}
	if len(raw) == 0 {
		return RunResult{Status: StatusSucceeded}
	}
	big, err := checkJSON(raw)
	switch {
	case err != nil:
		return failed("ValueError", fmt.Sprintf("the task's value cannot be sent: %v", err))
	case big:
		return RunResult{Status: StatusSucceeded, ValueText: string(raw)}
	default:
		return RunResult{Status: StatusSucceeded, Value: raw}
	}
}

const (
	maxMessageKept = 256
	maxTypeKept    = 64
)

// smaller says in little what a result over the limit was.
func smaller(r RunResult, limit int) RunResult {
	if r.Err == nil {
		return failed("ValueError", fmt.Sprintf(
			"the task's value is too large: %d bytes as JSON, and a message may have %d (maxMessageBytes)", len(r.Value)+len(r.ValueText), limit))
	}
	e := *r.Err
	e.Stack = ""
	e.Type = cut(e.Type, maxTypeKept)
	e.Message = cut(e.Message, maxMessageKept)
	return RunResult{Status: StatusFailed, Err: &e}
}

// cut shortens a text that is over max bytes.
func cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	return strings.ToValidUTF8(s[:max], "") + fmt.Sprintf("… (%d bytes)", len(s))
}
