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
				s.asking.answer(&Message{ID: id, Error: Errorf(CodeInvalidParams, "the answer is %d bytes long, over this worker's limit", long.Length)})
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
	if len(bytes.TrimSpace(line)) == 0 {
		return
	}
	m, err := DecodeMessage(line)
	switch {
	case err != nil:
		prefix := line[:min(IDWindow, len(line))]
		id, _ := FindID(prefix)
		if isAnswer(prefix) {
			s.asking.answer(&Message{ID: id, Error: Errorf(CodeInvalidParams, "the answer cannot be read: %v", err)})
			return
		}
		s.sendError(id, Errorf(CodeParse, "%v", err))
	case m.IsRequest():
		s.request(&m)
	case m.IsNotification():
		s.notification(&m)
	default:
		s.asking.answer(&m)
	}
}

func (s *server) request(m *Message) {
	switch m.Method {
	case MethodTaskRun:
		s.taskRun(m)
	case MethodPing:
		s.out.put(func(dst []byte) []byte { return AppendResult(dst, m.ID, nil) })
	case MethodInitialize:
		s.initialize(m)
	case MethodShutdown:
		// It is a notification, but nobody need be left waiting for the answer.
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

// taskRun accepts a task, and starts a runner if there may be one more (P26).
func (s *server) taskRun(m *Message) {
	p, err := DecodeRunParams(m.Params)
	if err != nil {
		s.sendError(m.ID, Errorf(CodeInvalidParams, "%v", err))
		return
	}
	// The line is gone with the next read.
	j := &job{
		id: bytes.Clone(m.ID),
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
	var refused *Error
	start := false
	s.update(func(st *state) {
		switch {
		case !st.initialized:
			refused = Errorf(CodeInvalidRequest, "initialize comes first")
		case st.refusing():
			refused = Errorf(CodeNotStarted, "the worker is stopping")
		case st.jobs[string(j.id)] != nil:
			refused = Errorf(CodeInvalidRequest, "the id of an unanswered request")
		default:
			st.jobs[string(j.id)] = j
			st.queue = append(st.queue, j)
			if start = st.running < s.opts.concurrency; start {
				st.running++
			}
		}
	})
	switch {
	case refused != nil:
		s.sendError(j.id, refused)
	case start:
		go s.run()
	}
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
			j.cancel(CodeCancelled)
		} else if i := slices.Index(st.queue, j); i >= 0 {
			st.queue = slices.Delete(st.queue, i, i+1)
			unstarted = j
		}
	})
	if unstarted != nil {
		s.sendError(unstarted.id, Errorf(CodeCancelled, "cancelled before it started"))
		s.answered(unstarted)
	}
}
