package rpc

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Requests serves what workers request for their tasks (P45 to P49, P53 to P56).
// Its methods are called from many goroutines at once.
type Requests interface {
	// Serve answers one request of a running task with the result's JSON. It may
	// take as long as it needs, and returns soon once ctx, which ends with the
	// delivery, has ended. An error that is a *protocol.Error is what the worker
	// gets.
	Serve(ctx context.Context, t *task.Task, method string, a *protocol.TaskRequest) ([]byte, error)
	// Inputs reads the values of these names for a task that is to start; names
	// that are not there are left out. It waits for what passes; an error with
	// ctx not ended is the task's failure.
	Inputs(ctx context.Context, t *task.Task, names []string) ([]protocol.Input, error)
	// Ended is called once for each delivery that has asked for something, when
	// it has ended and every Ask of it has returned.
	Ended(t *task.Task)
}

// Bounds of what one child may have asked and not been answered (P54). The
// reader never waits, so what comes must fit into memory.
const (
	maxOpen      = 1024
	maxOpenLines = 4 // in messages of the greatest length
	// maxReading is how many requests for stored values are served at once for one child.
	maxReading = 16
)

// scope is the part of a task's life in which it may ask.
type scope struct {
	ctx  context.Context
	end  context.CancelFunc
	open sync.WaitGroup
}

// opened counts a child's unanswered requests, and the bytes of their params.
type opened struct{ requests, bytes int }

// takeRequest takes a request of the worker. It starts its service and does not wait
// for it: the reader calls it.
func (c *child) takeRequest(m protocol.Message) {
	id, method := bytes.Clone(m.ID), m.Method
	if !protocol.IsTaskRequest(method) || c.cfg.Requests == nil {
		c.refuse(id, protocol.Errorf(protocol.CodeMethodNotFound, "method not found: %s", method))
		return
	}
	size := len(m.Params)
	if problem := c.crowded(size); problem != nil {
		c.refuse(id, problem)
		return
	}
	a, err := protocol.DecodeTaskRequest(method, bytes.Clone(m.Params)) // the line is the reader's
	if err != nil {
		c.refuse(id, protocol.Errorf(protocol.CodeInvalidParams, "%v", err))
		return
	}
	r, s := c.admit(a.Delivery, size)
	if r == nil {
		c.refuse(id, deliveryEnded(a.Delivery))
		return
	}
	c.pool.requests.Go(func() {
		c.pool.safe(func() {
			defer s.open.Done()
			defer c.forget(size)
			c.serve(s.ctx, r, id, method, &a)
		})
	})
}

// crowded refuses what would make a child's unanswered requests, or the answers
// that it does not read, too many to keep.
func (c *child) crowded(size int) *protocol.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	most := maxOpenLines * c.cfg.MaxMessageBytes
	switch {
	case c.opened.requests >= maxOpen:
		return protocol.Errorf(protocol.CodeInvalidRequest, "%d requests are unanswered: wait for some answers", maxOpen)
	case c.opened.bytes+size > most, c.out.unread() > most:
		return protocol.Errorf(protocol.CodeInvalidRequest, "unanswered requests or unread answers take more than %d bytes: wait for some answers, and read them", most)
	}
	return nil
}

// admit finds the task that asks, counts its request and opens its scope; nil if
// no task of this child runs under that delivery.
func (c *child) admit(delivery string, size int) (*run, *scope) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.runOfLocked(delivery)
	if r == nil {
		return nil, nil
	}
	if r.scope == nil {
		r.scope = &scope{}
		r.scope.ctx, r.scope.end = context.WithCancel(context.Background())
	}
	r.scope.open.Add(1)
	c.opened.requests++
	c.opened.bytes += size
	return r, r.scope
}

// forget takes an answered request off the count.
func (c *child) forget(size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.opened.requests--
	c.opened.bytes -= size
}

// runOfLocked is the task that has been started in this child under a delivery.
func (c *child) runOfLocked(delivery string) *run {
	for _, r := range c.running {
		if r.task.Delivery == delivery && r.fetching == nil {
			return r
		}
	}
	return nil
}

// room waits until an answer of any length may be fetched for the child, and counts
// it until done is called; false where ctx ends before. Requests are small and their
// answers may be large: a thousand requests for a value of 10 MB that were admitted at once,
// by a worker that reads none of the answers, had 10 GB of them in memory.
func (c *child) room(ctx context.Context, method string) (done func(), ok bool) {
	if method != protocol.MethodChannelGet && method != protocol.MethodChannelKeys {
		return func() {}, true
	}
	select {
	case c.reading <- struct{}{}:
	case <-ctx.Done():
		return nil, false
	}
	done = func() { <-c.reading }
	if !c.out.waitBelow(ctx, c.cfg.MaxMessageBytes) {
		done()
		return nil, false
	}
	return done, true
}

// serve answers one request.
func (c *child) serve(ctx context.Context, r *run, id []byte, method string, a *protocol.TaskRequest) {
	done, ok := c.room(ctx, method)
	if !ok {
		c.refuse(id, deliveryEnded(a.Delivery))
		return
	}
	defer done()
	result, err := c.cfg.Requests.Serve(ctx, &r.task, method, a)
	switch problem := (*protocol.Error)(nil); {
	case err == nil:
	case ctx.Err() != nil:
		c.refuse(id, deliveryEnded(a.Delivery))
		return
	case errors.As(err, &problem):
		c.refuse(id, problem)
		return
	default:
		c.refuse(id, protocol.Errorf(protocol.CodeInternal, "%v", err))
		return
	}
	tooLong := 0
	c.out.add(func(dst []byte) []byte {
		line := protocol.AppendResult(dst, id, result)
		if n := len(line) - len(dst); n > c.cfg.MaxMessageBytes {
			tooLong = n
			return protocol.AppendError(dst, id, tooMuch(n, c.cfg.MaxMessageBytes))
		}
		return line
	})
	if tooLong > 0 {
		c.log.Warn("response to a worker is too long", append(r.task.LogAttrs(), "method", method, "bytes", tooLong)...)
	}
}

func tooMuch(n, most int) *protocol.Error {
	return protocol.Errorf(protocol.CodeInvalidParams, "the answer has %d bytes, more than the %d that are allowed (SIDECAR_MAX_MESSAGE_BYTES)", n, most)
}

func deliveryEnded(delivery string) *protocol.Error {
	return protocol.Errorf(protocol.CodeDeliveryEnded, "no task runs in this worker under the delivery %.200q", delivery)
}

// refuse answers with an error.
func (c *child) refuse(id []byte, e *protocol.Error) {
	const longest = 1024 // it may quote what came in
	if len(e.Message) > longest {
		e = protocol.Errorf(e.Code, "%s…", e.Message[:longest])
	}
	c.out.add(func(dst []byte) []byte { return protocol.AppendError(dst, id, e) })
}

// endRequests ends what a task that is over has asked: requests that still wait,
// and then what they have left, locks say. It does not wait for that.
func (c *child) endRequests(r *run) {
	if r.scope == nil {
		return
	}
	r.scope.end()
	c.pool.requests.Go(func() {
		c.pool.safe(func() {
			r.scope.open.Wait()
			c.cfg.Requests.Ended(&r.task)
		})
	})
}

// endAllRequests ends the requests of a child whose keeper panicked.
func (c *child) endAllRequests() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.running {
		if r.scope != nil {
			r.scope.end()
		}
	}
}
