package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Group is the producer's side of one parallel group. Its steps are those of Graflow
// (graflow/coordination/redis_coordinator.py), so that the demo and tests see what a
// Graflow producer sees.
type Group struct {
	s        *Store
	id       string
	expected int
	done     <-chan string
	stop     func() error
}

// Completion is the entry of one task among the completions of a group.
type Completion struct {
	TaskID       string  `json:"task_id"`
	Success      bool    `json:"success"`
	Timestamp    float64 `json:"timestamp"`
	ErrorMessage *string `json:"error_message"`
}

// OpenGroup creates the barrier for a group of expected tasks and subscribes to its end.
// The group must be closed.
func (s *Store) OpenGroup(ctx context.Context, id string, expected int) (*Group, error) {
	if err := s.c.Del(ctx, s.keys.barrier(id)).Err(); err != nil {
		return nil, failure("open group", err)
	}
	if err := s.c.Set(ctx, s.keys.expected(id), expected, 0).Err(); err != nil {
		return nil, failure("open group", err)
	}
	sub := s.c.Subscribe(ctx, s.keys.barrierDone(id))
	if _, err := sub.Receive(ctx); err != nil {
		_ = sub.Close()
		return nil, failure("open group", err)
	}
	done := make(chan string, 1)
	messages := sub.Channel()
	go func() {
		defer close(done)
		for m := range messages {
			if m.Payload == "complete" {
				done <- m.Payload
				return
			}
		}
	}()
	return &Group{s: s, id: id, expected: expected, done: done, stop: sub.Close}, nil
}

// Push pushes records of the group to the left end of the queue, as Graflow does.
func (g *Group) Push(ctx context.Context, records ...[]byte) error {
	values := make([]any, len(records))
	for i, r := range records {
		values[i] = r
	}
	return failure("push", g.s.c.LPush(ctx, g.s.keys.queue(), values...).Err())
}

// Wait waits for the barrier and reports whether it was reached, by the publication or,
// if that was missed, by the counter.
func (g *Group) Wait(ctx context.Context, timeout time.Duration) (bool, error) {
	over := time.NewTimer(timeout)
	defer over.Stop()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		select {
		case _, ok := <-g.done:
			if ok {
				return true, nil
			}
			return false, fmt.Errorf("wait for group: the subscription ended")
		case <-look.C:
			if n, err := g.Reached(ctx); err == nil && n >= g.expected {
				return true, nil
			}
		case <-over.C:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}

// Reached returns the number of tasks that the barrier has counted.
func (g *Group) Reached(ctx context.Context) (int, error) {
	n, err := g.s.c.Get(ctx, g.s.keys.barrier(g.id)).Int()
	if isNilReply(err) {
		return 0, nil
	}
	return n, failure("barrier", err)
}

// Completions returns the completions of the group.
func (g *Group) Completions(ctx context.Context) (map[string]Completion, error) {
	raw, err := g.s.c.HGetAll(ctx, g.s.keys.completions(g.id)).Result()
	if err != nil {
		return nil, failure("completions", err)
	}
	out := make(map[string]Completion, len(raw))
	for id, text := range raw {
		var c Completion
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			return nil, fmt.Errorf("completion of %s: %w", id, err)
		}
		out[id] = c
	}
	return out, nil
}

// Close deletes the keys of the group and unsubscribes.
func (g *Group) Close(ctx context.Context) error {
	err := g.s.c.Del(ctx, g.s.keys.barrier(g.id), g.s.keys.expected(g.id), g.s.keys.completions(g.id)).Err()
	if serr := g.stop(); err == nil {
		err = serr
	}
	for range g.done { // until the listener has ended
	}
	return failure("close group", err)
}

// The keys of Graflow's barriers.
func (k keys) barrier(group string) string     { return k.prefix + ":barrier:" + group }
func (k keys) expected(group string) string    { return k.barrier(group) + ":expected" }
func (k keys) barrierDone(group string) string { return k.prefix + ":barrier_done:" + group }
func (k keys) completions(group string) string { return k.prefix + ":completions:" + group }
