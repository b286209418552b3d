package rpc

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// suspect is something that looks like a message and is none (P59). It is judged
// when what it would have said had time to come in the right form: a print of an
// answer stands beside the answer.
type suspect struct {
	at      time.Time
	id      int64   // of the request that it answers; 0: that cannot be told
	among   []int64 // the tasks that ran when it came, where it cannot be told
	request []byte  // the id of a request of the worker; nil for an answer
	fault   bool    // the beginning of a message: if it stays without an id, the worker is replaced
	refusal bool    // an error response without an id (P10)
	why     string
}

// suspects are the reader's own.
type suspects struct {
	finder protocol.MisframedFinder
	list   []suspect
	warned bool // of a message without a line end

	// What was found so far in a line over the limit.
	skipping bool
	message  bool // the line is itself meant as a message, and is dealt with at its end
	found    []protocol.Misframed
}

// due is when the first of them is to be judged.
func (s *suspects) due() time.Time {
	if len(s.list) == 0 {
		return time.Time{}
	}
	at := s.list[0].at
	for _, x := range s.list[1:] {
		if x.at.Before(at) {
			at = x.at
		}
	}
	return at
}

// maxSuspects bounds how many requests are kept; of answers there is one for each
// task at most.
const maxSuspects = 1024

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

// failFor fails a task whose answer cannot be read, if it still waits for one.
func (c *child) failFor(id int64, why string) bool {
	r := c.end(id, false)
	if r != nil {
		c.ends(r, task.Outcome{Conclusion: task.Failed, Reason: "protocol", Message: why})
	}
	return r != nil
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
