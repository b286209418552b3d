//go:build faults

package faults

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
)

// keep puts a value of the record's size into the channel, reads it and deletes it.
func keep(ctx context.Context, t *protocol.Task, r record) error {
	c, key, value := t.Channel(), r.TaskID+".large", strings.Repeat("v", r.Size)
	if err := c.Set(ctx, key, value); err != nil {
		return fmt.Errorf("set: %w", err)
	}
	var got string
	if found, err := c.Get(ctx, key, &got); err != nil || !found || got != value {
		return fmt.Errorf("get: %v, %d bytes, %w", found, len(got), err)
	}
	if there, err := c.Delete(ctx, key); err != nil || !there {
		return fmt.Errorf("delete: %v, %w", there, err)
	}
	return nil
}

// ask makes every request that a worker may make of its sidecar, and fails if the sidecar
// did not carry one out, or carried it out twice.
func ask(ctx context.Context, t *protocol.Task, r record) error {
	c, key := t.Channel(), func(name string) string { return r.TaskID + "." + name }
	lock, err := c.Lock(ctx, key("lock"), 5*time.Minute)
	if err != nil || lock == nil {
		return fmt.Errorf("lock: %v, %w", lock, err)
	}
	length, err := c.Append(ctx, key("list"), r.TaskID, 0)
	if err != nil || length != 1 {
		return fmt.Errorf("append: %d, %w", length, err)
	}
	if sum, err := c.Add(ctx, key("sum"), 1); err != nil || sum != "1" {
		return fmt.Errorf("add: %v, %w", sum, err)
	}
	if err := c.Set(ctx, key("value"), r.TaskID); err != nil {
		return fmt.Errorf("set: %w", err)
	}
	var value string
	if found, err := c.Get(ctx, key("value"), &value); err != nil || !found || value != r.TaskID {
		return fmt.Errorf("get: %v %q, %w", found, value, err)
	}
	for _, name := range []string{"list", "sum", "value"} {
		if there, err := c.Delete(ctx, key(name)); err != nil || !there {
			return fmt.Errorf("delete %s: %v, %w", name, there, err)
		}
	}
	if err := t.Enqueue(ctx, r.Next); err != nil {
		return fmt.Errorf("enqueue: %w", err)
	}
	if held, err := lock.Unlock(ctx); err != nil || !held {
		return fmt.Errorf("unlock: %v, %w", held, err)
	}
	return nil
}
