//go:build simulation

package simulation

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"
)

// record is what producers push: Graflow's fields, and what the worker is to do.
type record struct {
	TaskID    string      `json:"task_id"`
	SessionID string      `json:"session_id"`
	GraphHash string      `json:"graph_hash"`
	TraceID   string      `json:"trace_id"`
	CreatedAt json.Number `json:"created_at"`
	GroupID   *string     `json:"group_id"`

	Do   behaviour `json:"do,omitempty"`
	Ms   int       `json:"ms,omitempty"`   // how long the work takes
	Size int       `json:"size,omitempty"` // of the result or the value, in bytes
	Next int       `json:"next,omitempty"` // how many records the task adds
	Pad  string    `json:"pad,omitempty"`
}

// speech is a worker that speaks the protocol by hand, so that it can break each rule.
type speech struct {
	*process
	writing chan struct{} // holds an element while a line is being written
	mu      sync.Mutex
	lastID  int
	asked   map[string]chan protocol.Message // requests to the sidecar
	cancels map[string]chan struct{}         // running tasks by the id of their request
	max     int
}

// serve is a worker of mode rpc.
func (p *process) serve() local.Ending {
	s := &speech{process: p, writing: make(chan struct{}, 1), asked: map[string]chan protocol.Message{}, cancels: map[string]chan struct{}{}, max: p.member.cfg.Worker.MaxMessageBytes}
	if !p.pass(p.member.startTime) {
		return local.Ending{Code: 1}
	}
	lines := protocol.NewLineReader(p.in, s.max)
	for {
		line, err := lines.Next()
		if _, long := errors.AsType[*protocol.TooLongError](err); long {
			continue // P4
		}
		if err != nil {
			return local.Ending{} // the sidecar has closed the pipe
		}
		m, err := protocol.DecodeMessage(line)
		if err != nil {
			p.member.world.violation("%s sent a line that is no message: %.200s: %v", p.member.name, line, err)
			continue
		}
		if s.hear(&m) {
			return local.Ending{}
		}
	}
}

// hear handles a message. It reports whether the worker ends.
func (s *speech) hear(m *protocol.Message) (end bool) {
	id := string(m.ID)
	switch {
	case m.IsResponse():
		s.mu.Lock()
		ch := s.asked[id]
		delete(s.asked, id)
		s.mu.Unlock()
		if ch != nil {
			c := *m
			c.Result = bytes.Clone(m.Result)
			ch <- c
		}
	case m.Method == protocol.MethodInitialize:
		_ = s.say(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":1,"worker":{"name":"simulated","version":"1"},"concurrency":%d,"capabilities":{"channels":{}}}}`, id, s.member.concurrency)
	case m.Method == protocol.MethodPing:
		_ = s.say(`{"jsonrpc":"2.0","id":%s,"result":{}}`, id)
	case m.Method == protocol.MethodShutdown:
		s.leave()
	case m.Method == protocol.MethodCancel:
		var c protocol.CancelParams
		if json.Unmarshal(m.Params, &c) == nil {
			s.mu.Lock()
			if ch := s.cancels[string(c.ID)]; ch != nil {
				close(ch)
				delete(s.cancels, string(c.ID))
			}
			s.mu.Unlock()
		}
	case m.Method == protocol.MethodTaskRun:
		return s.take(id, m.Params)
	}
	return false
}

// take begins a task on a goroutine of its own.
func (s *speech) take(id string, params []byte) (end bool) {
	var q struct {
		Delivery string `json:"delivery"`
		Record   record `json:"record"`
	}
	if err := json.Unmarshal(params, &q); err != nil {
		_ = s.say(`{"jsonrpc":"2.0","id":%s,"result":{"status":"failed","error":{"message":"the record has another form"}}}`, id)
		return false
	}
	cancelled := make(chan struct{})
	s.mu.Lock()
	s.cancels[id] = cancelled
	s.mu.Unlock()
	s.begin(q.Record.TaskID)
	s.member.began(q.Record.TaskID, q.Delivery, s.pid)
	t := &running{speech: s, id: id, delivery: q.Delivery, record: q.Record, cancelled: cancelled}
	if q.Record.Do == stopsReading {
		<-s.ctx.Done() // neither this line's task nor a later one is read
		return true
	}
	s.all.Go(t.run)
	return false
}

// running is one task of a worker.
type running struct {
	*speech
	id, delivery string
	record       record
	cancelled    chan struct{}
}

func (t *running) run() {
	how, ends := t.perform()
	if ends {
		t.exit(how)
	}
}

// ended notes that the work is done. The answer follows.
func (t *running) ended() {
	t.member.world.note(history.Event{What: history.Ended, Task: t.record.TaskID, Delivery: t.delivery, Pid: t.pid})
}

// answered says that the task is over for the worker.
func (t *running) answered() {
	t.finish(t.record.TaskID)
	t.mu.Lock()
	delete(t.cancels, t.id)
	t.mu.Unlock()
}

// work takes the time of the record. It returns false where the task was cancelled, which it
// has answered then, or the process has ended.
func (t *running) work() bool {
	timer := time.NewTimer(time.Duration(t.record.Ms) * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.ctx.Done():
		return false
	case <-t.cancelled:
		t.giveUp()
		return false
	}
}

func (t *running) giveUp() {
	t.finish(t.record.TaskID)
	_ = t.say(`{"jsonrpc":"2.0","id":%s,"error":{"code":-32800,"message":"cancelled"}}`, t.id)
}

func (t *running) succeed() {
	t.ended()
	t.answered()
	if t.say(`{"jsonrpc":"2.0","id":%s,"result":{"status":"succeeded","value":"%s"}}`, t.id, t.value()) != nil {
		t.member.world.interrupted(t.record.TaskID) // another task has closed stdout
	}
}

func (t *running) value() string {
	if t.record.Size > 0 {
		return strings.Repeat("x", t.record.Size)
	}
	return t.record.TaskID
}

func (t *running) fail(message string, retryable bool) {
	t.answered()
	_ = t.say(`{"jsonrpc":"2.0","id":%s,"result":{"status":"failed","error":{"message":%q,"retryable":%t}}}`, t.id, message, retryable)
}

// say writes one line.
func (s *speech) say(format string, args ...any) error {
	return s.raw(fmt.Sprintf(format, args...) + "\n")
}

// raw writes text as it is. An error means that the process ends, or that stdout is closed. A
// pipe that is held makes it wait. It holds no mutex meanwhile: virtual time stands still
// while a goroutine waits for a mutex.
func (s *speech) raw(text string) error {
	s.writing <- struct{}{}
	defer func() { <-s.writing }()
	_, err := io.WriteString(s.out, text)
	return err
}

// ask sends a request for a task and returns the answer; nil if the process has ended or the
// task was cancelled.
func (t *running) ask(method, params string) *protocol.Message {
	ch := make(chan protocol.Message, 1)
	t.mu.Lock()
	t.lastID++
	id := fmt.Sprintf("%q", fmt.Sprint("w", t.lastID))
	t.asked[id] = ch
	t.mu.Unlock()
	_ = t.say(`{"jsonrpc":"2.0","id":%s,"method":%q,"params":{"delivery":%q%s}}`, id, method, t.delivery, params)
	select {
	case m := <-ch:
		return &m
	case <-t.ctx.Done():
	case <-t.cancelled:
	}
	return nil
}

// execute is a program of mode exec: its record is on stdin, its result on stdout.
func (p *process) execute() local.Ending {
	text, err := io.ReadAll(p.in)
	var r record
	if err != nil || json.Unmarshal(text, &r) != nil {
		return local.Ending{Code: 65}
	}
	p.begin(r.TaskID)
	p.member.began(r.TaskID, "", p.pid)
	done := func() {
		p.member.world.note(history.Event{What: history.Ended, Task: r.TaskID, Pid: p.pid})
		p.finish(r.TaskID)
	}
	switch r.Do {
	case fails, failsUnread, retriesAlways:
		p.finish(r.TaskID)
		_, _ = io.WriteString(p.errs, "failed on purpose\n")
		return local.Ending{Code: 1}
	case dies, segfaults:
		return local.Ending{Code: -1, Signal: syscall.SIGSEGV}
	case hangs, hangsSoftly:
		<-p.ctx.Done()
		return local.Ending{Code: -1, Signal: syscall.SIGKILL}
	case floodsStderr:
		p.flood(p.errs)
	}
	if !p.pass(time.Duration(r.Ms) * time.Millisecond) {
		return local.Ending{Code: -1, Signal: syscall.SIGKILL}
	}
	done()
	_, _ = io.WriteString(p.out, `"`+strings.Repeat("x", max(r.Size, 1))+`"`)
	return local.Ending{}
}

// flood writes much more than a pipe holds.
func (p *process) flood(w io.Writer) {
	line := strings.Repeat("e", 400) + "\n"
	for range 1000 {
		if _, err := io.WriteString(w, line); err != nil {
			return
		}
	}
}
