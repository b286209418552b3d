package rpc

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// wanted are the inputs that a worker declared for the tasks of one pattern.
type wanted struct {
	pattern string
	names   []string
}

// declared reads what a worker declared, and what is wrong with it.
func declared(inputs map[string][]string) (list []wanted, problem string) {
	names := 0
	for _, pattern := range slices.Sorted(maps.Keys(inputs)) {
		list = append(list, wanted{pattern, inputs[pattern]})
		names += len(inputs[pattern])
		for _, name := range inputs[pattern] {
			if len(name) > protocol.MaxKeyBytes {
				return nil, fmt.Sprintf("its answer to initialize declares an input whose name has %d bytes, more than %d", len(name), protocol.MaxKeyBytes)
			}
		}
	}
	if len(list) > protocol.MaxInputPatterns || names > protocol.MaxInputNames {
		return nil, fmt.Sprintf("its answer to initialize declares %d inputs for %d patterns; %d and %d are the most",
			names, len(list), protocol.MaxInputNames, protocol.MaxInputPatterns)
	}
	return list, ""
}

// inputsFor are the names of the inputs that the worker wants for a task, each
// once: nil if it wants none, and none at all if it wants only those that the
// workflow has for the task (P57).
func (c *child) inputsFor(id string) (names []string) {
	if c.cfg.Requests == nil {
		return nil
	}
	for _, w := range c.inputs {
		if protocol.MatchTask(w.pattern, id) {
			names = append(slices.Grow(names, len(w.names)+1), w.names...)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// fetchLocked has a task's inputs read before it is started. Until then it has a
// slot and nothing else; ctx is that of the pump, which waits for this.
func (c *child) fetchLocked(ctx context.Context, id int64, r *run, names []string) {
	ctx, cancel := context.WithCancel(ctx)
	r.fetching = cancel
	c.running[id] = r
	c.fetches.Go(func() {
		defer cancel()
		c.pool.safe(func() { c.fetch(ctx, id, r, names) })
	})
}

// fetch reads a task's inputs and starts it. What ends the child, the lease or
// the sidecar meanwhile sends the task back at no cost: it was not started.
func (c *child) fetch(ctx context.Context, id int64, r *run, names []string) {
	inputs, err := c.cfg.Requests.Inputs(ctx, &r.task, names)
	o := task.Outcome{Conclusion: task.Returned, Message: "not started"}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		o = task.Outcome{Conclusion: task.Failed, Reason: "inputs", Message: fmt.Sprintf("the inputs of this task cannot be read: %v", err)}
	default:
		size, started := c.launch(ctx, id, r, inputs)
		if started {
			return
		}
		if size > c.cfg.MaxMessageBytes {
			o = task.Outcome{Conclusion: task.Failed, Reason: "inputs", Message: fmt.Sprintf(
				"the task and its inputs have %d bytes, more than the %d that are allowed (SIDECAR_MAX_MESSAGE_BYTES)", size, c.cfg.MaxMessageBytes)}
		}
	}
	c.mu.Lock()
	r.fetching = nil // for end
	c.mu.Unlock()
	if r := c.end(id, false); r != nil {
		c.finish(r, o)
	}
}

// launch writes a task whose inputs are there; its clock begins now. It tells how
// long the line is, and whether it was written.
func (c *child) launch(ctx context.Context, id int64, r *run, inputs []protocol.Input) (size int, started bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil || c.dead || c.draining || c.condemned {
		return 0, false
	}
	now := time.Now()
	p := params(&r.task, c.cfg.TaskTimeout, now)
	p.Inputs = inputs
	line := protocol.AppendTaskRun(nil, id, p)
	if len(line) > c.cfg.MaxMessageBytes {
		return len(line), false
	}
	r.started, r.fetching = now, nil
	if d := r.task.Limit(c.cfg.TaskTimeout); d > 0 {
		r.expiry = time.AfterFunc(d, func() { c.expire(id) })
	}
	// Under the lock, so that no cancel of it is written before.
	r.end.Store(c.out.add(func(dst []byte) []byte { return append(dst, line...) }))
	return len(line), true
}

// params are those of the task/run for a task that starts now.
func params(t *task.Task, timeout time.Duration, now time.Time) protocol.RunParams {
	p := protocol.RunParams{
		Delivery: t.Delivery, Record: t.Record, Attempt: t.Attempt, Traceparent: t.Traceparent(),
	}
	if d := t.Limit(timeout); d > 0 {
		p.DeadlineUnixMs = now.Add(d).UnixMilli()
	}
	return p
}
