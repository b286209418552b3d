package redis

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// Push adds records to the tail of the queue in their order, as Graflow's enqueue does,
// in calls of a few megabytes or one record. It returns the number of added records, also
// with an error, and the length of the queue. A [RejectedError] concerns the first record
// that was not added.
func (s *Store) Push(ctx context.Context, records ...[]byte) (added int, depth int64, err error) {
	for added < len(records) {
		values, bytes := make([]any, 0, min(len(records)-added, chunkRecords)), 0
		for _, r := range records[added:] {
			if len(values) == cap(values) || len(values) > 0 && bytes+len(r) > s.o.MaxClaimBytes {
				break
			}
			values, bytes = append(values, r), bytes+len(r)
		}
		depth, err = s.c.RPush(ctx, s.keys.queue(), values...).Result()
		if err != nil && isRejection(err) && len(values) > 1 {
			// Nothing of this call was added. The records before the longest one can be.
			for _, v := range values {
				if depth, err = s.c.RPush(ctx, s.keys.queue(), v).Result(); err != nil {
					return added, depth, failure("push", s.rejected(ctx, err, []any{v}))
				}
				added++
			}
			continue
		}
		if err != nil {
			return added, depth, failure("push", s.rejected(ctx, err, values))
		}
		added += len(values)
	}
	return added, depth, nil
}

// GroupOpen reports whether the barrier of a group is open.
func (s *Store) GroupOpen(ctx context.Context, group string) (bool, error) {
	n, err := s.c.Exists(ctx, s.keys.expected(group)).Result()
	return n == 1, failure("group", err)
}

// CompletionsOf returns the completions of those of a group's tasks that have ended.
func (s *Store) CompletionsOf(ctx context.Context, group string, tasks ...string) (map[string]Completion, error) {
	values, err := s.c.HMGet(ctx, s.keys.completions(group), tasks...).Result()
	if err != nil {
		return nil, failure("completions", err)
	}
	out := make(map[string]Completion)
	for i, v := range values {
		text, ok := v.(string)
		if !ok {
			continue
		}
		var c Completion
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			return nil, fmt.Errorf("completion of %s: %w", tasks[i], err)
		}
		out[tasks[i]] = c
	}
	return out, nil
}

// Result returns a task's result as JSON text, stored from a worker's value or by
// Graflow's own code. It returns false without one, also for a result without a session
// that has expired.
func (s *Store) Result(ctx context.Context, session, task string) (json.RawMessage, bool, error) {
	text, err := s.c.Get(ctx, s.keys.result(session, task)).Bytes()
	if isNilReply(err) {
		return nil, false, nil
	}
	return text, err == nil, failure("result", err)
}

// openDays is the age in days of the oldest set of counted tasks that a report looks for, as
// in report.lua.
const openDays = 13

// ForgetGroup deletes the keys of sidecars for a group that is over. They would otherwise
// stay for a day or more. No producer may wait for the group any more.
func (s *Store) ForgetGroup(ctx context.Context, group string) error {
	now, err := s.Time(ctx)
	if err != nil {
		return err
	}
	ahead, err := s.c.HGet(ctx, s.keys.own("clock"), "ahead").Int64()
	if err != nil && !isNilReply(err) {
		return failure("clock", err)
	}
	day := (now.UnixMilli() + ahead) / countedKeep.Milliseconds()
	for d := day; d >= day-openDays; d-- {
		if err := s.c.Del(ctx, s.keys.own(fmt.Sprintf("counted:%d:%s", d, group))).Err(); err != nil {
			return failure("forget group", err)
		}
	}
	return nil
}

// KeepFor sets a time to live on the keys of a group, in case its producer is killed.
func (g *Group) KeepFor(ctx context.Context, d time.Duration) error {
	return failure("keep group", g.s.c.PExpire(ctx, g.s.keys.expected(g.id), d).Err())
}
