package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"time"
)

// read takes messages until stdin ends (nil) or fails.
func (s *server) read() error {
	for {
		// What came together is handed over together: to wake a runner for each
		// line cost more than to run a short task. Nothing waits for a read, or
		// is left at the end.
		if len(s.arrived) >= maxArrived || !s.in.Buffered() {
			s.accept()
		}
		line, err := s.in.Next()
		var long *TooLongError
		var cut *UnterminatedError
		switch {
		case err == nil:
			s.line(line)
		case errors.As(err, &long):
			id, _ := FindID(long.Prefix)
			if isAnswer(long.Prefix) {
				// The sidecar's own request of the same id is another one.
				s.requests.answer(&Message{ID: id, Error: Errorf(CodeInvalidParams, "the answer is %d bytes long, over this worker's limit", long.Length)})
				continue
			}
			s.sendError(id, Errorf(CodeInvalidRequest, "the message is %d bytes long, over this worker's limit", long.Length))
		case errors.As(err, &cut):
			// No message (P7); the end of the stream comes next.
		case errors.Is(err, io.EOF):
			return nil
		default:
			return err
		}
	}
}

// line handles one line.
func (s *server) line(line []byte) {
	if id, p, ok := decodeTaskRun(line); ok {
		s.take(string(id), &p)
		return
	}
	if len(bytes.TrimSpace(line)) == 0 {
		return
	}
	m, err := DecodeMessage(line)
	switch {
	case err != nil:
		prefix := line[:min(IDWindow, len(line))]
		id, _ := FindID(prefix)
		if isAnswer(prefix) {
			s.requests.answer(&Message{ID: id, Error: Errorf(CodeInvalidParams, "the answer cannot be read: %v", err)})
			return
		}
		s.sendError(id, Errorf(CodeParse, "%v", err))
	case m.IsRequest():
		s.request(&m)
	case m.IsNotification():
		s.accept() // it may be about one of them
		s.notification(&m)
	default:
		s.requests.answer(&m)
	}
}

func (s *server) request(m *Message) {
	if m.Method != MethodTaskRun {
		s.accept() // answers come in the order of what they answer, where they can
	}
	switch m.Method {
	case MethodTaskRun:
		p, err := DecodeRunParams(m.Params)
		if err != nil {
			s.sendError(m.ID, Errorf(CodeInvalidParams, "%v", err))
			return
		}
		s.take(string(m.ID), &p)
	case MethodPing:
		s.out.put(func(dst []byte) []byte { return AppendResult(dst, m.ID, nil) })
	case MethodInitialize:
		s.initialize(m)
	case MethodShutdown:
		// It is a notification, but a sidecar that sends it as a request gets an answer.
		s.out.put(func(dst []byte) []byte { return AppendResult(dst, m.ID, nil) })
		s.stop()
	default:
		s.sendError(m.ID, Errorf(CodeMethodNotFound, "this worker has no method %q", m.Method))
	}
}

func (s *server) notification(m *Message) {
	switch m.Method {
	case MethodCancel:
		var p CancelParams
		if err := json.Unmarshal(m.Params, &p); err != nil {
			s.warn("a cancel request without an id: %v", err)
			return
		}
		s.cancel(p.ID)
	case MethodShutdown:
		s.stop()
	}
}

// initialize answers with the version and limits to keep to (P15 to P17).
func (s *server) initialize(m *Message) {
	var p InitializeParams
	if err := json.Unmarshal(m.Params, &p); err != nil {
		s.sendError(m.ID, Errorf(CodeInvalidParams, "initialize: %v", err))
		return
	}
	if p.ProtocolVersion < Version {
		s.sendError(m.ID, Errorf(CodeInvalidParams, "this worker speaks version %d of the protocol, not %d", Version, p.ProtocolVersion))
		return
	}
	again := false
	s.update(func(st *state) {
		again = st.initialized
		st.initialized = true
	})
	if again {
		s.sendError(m.ID, Errorf(CodeInvalidRequest, "initialize comes once"))
		return
	}
	limit := p.Limits.MaxMessageBytes
	if limit < MinMaxMessageBytes {
		limit = DefaultMaxMessageBytes
	}
	if s.opts.max > 0 {
		limit = min(limit, s.opts.max)
	} else {
		s.in.setMax(limit)
	}
	s.out.setMax(limit)
	result, err := json.Marshal(InitializeResult{
		ProtocolVersion: Version,
		Worker:          s.opts.info,
		Concurrency:     s.opts.concurrency,
		Capabilities:    map[string]json.RawMessage{"channels": json.RawMessage("{}")},
		Inputs:          s.opts.inputs,
	})
	if err != nil {
		s.sendError(m.ID, Errorf(CodeInternal, "%v", err))
		return
	}
	s.out.put(func(dst []byte) []byte { return AppendResult(dst, m.ID, result) })
}

// take copies a task, whose line is gone with the next read. No other goroutine sees
// the task before accept.
func (s *server) take(id string, p *RunParams) {
	j := &job{
		id: id,
		task: Task{
			Delivery:    p.Delivery,
			Record:      bytes.Clone(p.Record),
			Attempt:     p.Attempt,
			Traceparent: p.Traceparent,
			inputs:      cloned(p.Inputs),
			server:      s,
		},
	}
	if p.DeadlineUnixMs != 0 {
		j.task.Deadline = time.UnixMilli(p.DeadlineUnixMs)
	}
	s.arrived = append(s.arrived, j)
}

// maxArrived is how many tasks are taken in before the first of them can begin.
const maxArrived = 16

// accept queues what has arrived, and calls a runner if there may be one more
// (P26).
func (s *server) accept() {
	if len(s.arrived) == 0 {
		return
	}
	type refusal struct {
		id  string
		why *Error
	}
	var refused []refusal
	spawn := false
	s.update(func(st *state) {
		for _, j := range s.arrived {
			switch {
			case !st.initialized:
				refused = append(refused, refusal{j.id, Errorf(CodeInvalidRequest, "initialize comes first")})
			case st.refusing():
				refused = append(refused, refusal{j.id, Errorf(CodeNotStarted, "the worker is stopping")})
			case st.jobs[j.id] != nil:
				refused = append(refused, refusal{j.id, Errorf(CodeInvalidRequest, "the id of an unanswered request")})
			default:
				st.jobs[j.id] = j
				st.queue = append(st.queue, j)
			}
		}
		spawn = s.callLocked(st)
	})
	if spawn {
		go s.run()
	}
	for _, r := range refused {
		s.sendError([]byte(r.id), r.why)
	}
	clear(s.arrived)
	s.arrived = s.arrived[:0]
}

// cancel gives a task up (P29 to P31); an unknown id is of one that has been
// answered.
func (s *server) cancel(id []byte) {
	var unstarted *job
	s.update(func(st *state) {
		j := st.jobs[string(id)]
		if j == nil {
			return
		}
		if j.started {
			j.canceled.Store(true)
			j.ctx.cancel(CodeCancelled)
		} else if i := slices.Index(st.queue, j); i >= 0 {
			st.queue = slices.Delete(st.queue, i, i+1)
			unstarted = j
		}
	})
	if unstarted != nil {
		s.sendError([]byte(unstarted.id), Errorf(CodeCancelled, "cancelled before it started"))
		s.answered(unstarted)
	}
}
