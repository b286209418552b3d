package protocol

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
)

// pendingRequests are the requests of this worker that the sidecar has not answered.
type pendingRequests struct {
	mu   sync.Mutex
	last int64
	open map[int64]chan Message // each buffered for the one answer
}

// ErrNotServed is returned by requests of a Task that no sidecar stands behind:
// one that a test has made itself.
var ErrNotServed = errors.New("this task has no sidecar to ask")

// call sends a request about t and waits for its answer, which is decoded into
// result. appendParams writes what comes after the delivery, each member with a
// comma before it. An error of the sidecar's is an *Error.
func (t *Task) call(ctx context.Context, method string, result any, appendParams func(dst []byte) ([]byte, error)) error {
	if t.server == nil {
		return ErrNotServed
	}
	if t.ended.Load() {
		return Errorf(CodeDeliveryEnded, "the task has been answered")
	}
	params := append([]byte(`{"delivery":`), appendString(nil, t.Delivery)...)
	params, err := appendParams(params)
	if err != nil {
		return err
	}
	raw, err := t.server.call(ctx, method, append(params, '}'))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, result); err != nil {
		return fmt.Errorf("the answer to %s: %w", method, err)
	}
	return nil
}

func (s *server) call(ctx context.Context, method string, params []byte) ([]byte, error) {
	answer := make(chan Message, 1)
	s.requests.mu.Lock()
	s.requests.last++
	id := s.requests.last
	s.requests.open[id] = answer
	s.requests.mu.Unlock()
	defer func() {
		s.requests.mu.Lock()
		defer s.requests.mu.Unlock()
		delete(s.requests.open, id)
	}()
	if !s.out.put(func(dst []byte) []byte { return AppendRequest(dst, id, method, params) }) {
		return nil, Errorf(CodeInvalidParams, "the params of %s have %d bytes, and a message may have %d (maxMessageBytes)", method, len(params), s.out.limit())
	}
	select {
	case m := <-answer:
		switch {
		case m.Error == nil:
			return m.Result, nil
		case m.Error.Code == CodeInternal:
			return nil, Retryable(m.Error) // not the task's fault
		default:
			return nil, m.Error
		}
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-s.base.Done():
		return nil, context.Cause(s.base)
	}
}

// isAnswer reports whether the first bytes of a message are those of a response.
func isAnswer(prefix []byte) bool {
	method := bytes.Index(prefix, []byte(`"method"`))
	for _, member := range []string{`"result"`, `"error"`} {
		if at := bytes.Index(prefix, []byte(member)); at >= 0 && (method < 0 || at < method) {
			return true
		}
	}
	return false
}

// answer hands an answer to the task that waits for it; a late one is dropped.
func (a *pendingRequests) answer(m *Message) {
	id, err := strconv.ParseInt(string(m.ID), 10, 64)
	if err != nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	waiting := a.open[id]
	if waiting == nil {
		return
	}
	delete(a.open, id)
	kept := Message{Result: bytes.Clone(m.Result)} // the line is gone with the next read
	if m.Error != nil {
		e := *m.Error
		e.Data = bytes.Clone(e.Data)
		kept.Error = &e
	}
	waiting <- kept
}
