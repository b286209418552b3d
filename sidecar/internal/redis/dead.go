package redis

import (
	"context"
	_ "embed" // the scripts
	"strconv"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
)

//go:embed requeue.lua
var requeueLua string
var requeueScript = script(formatLua, requeueLua)

//go:embed drop.lua
var dropLua string
var dropScript = script(formatLua, dropLua)

//go:embed trim_dead.lua
var trimDeadLua string
var trimDeadScript = script(formatLua, trimDeadLua)

func (k keys) deadLetter(id string) string { return k.own("dead:" + id) }

// letterFields are the fields of a dead letter except the record, which may be large.
var letterFields = []string{"task_id", "session_id", "group_id", "reason", "message", "stderr", "attempts", "time"}

// DeadLetters returns dead letters without their records, the newest first: at most
// limit, or all if limit is below 1.
func (s *Store) DeadLetters(ctx context.Context, limit int) ([]fleet.DeadLetter, error) {
	ids, err := s.c.ZRevRange(ctx, s.keys.own("dead"), 0, int64(max(limit, 0))-1).Result()
	if err != nil {
		return nil, failure("dead letters", err)
	}
	letters := make([]fleet.DeadLetter, 0, len(ids))
	for len(ids) > 0 {
		part := ids[:min(len(ids), chunkLetters)]
		ids = ids[len(part):]
		replies := make([]*goredis.SliceCmd, len(part))
		_, _ = s.c.Pipelined(ctx, func(p goredis.Pipeliner) error { // each reply has its own error
			for i, id := range part {
				replies[i] = p.HMGet(ctx, s.keys.deadLetter(id), letterFields...)
			}
			return nil
		})
		for i, id := range part {
			if err := replies[i].Err(); err != nil && !isWrongType(err) {
				return nil, failure("dead letters", err)
			}
			if l, ok := letter(id, replies[i].Val()); ok {
				letters = append(letters, l)
			}
		}
	}
	return letters, nil
}

// DeadLetter returns a dead letter with its record, which is read in parts. It returns
// false if no dead letter has this id.
func (s *Store) DeadLetter(ctx context.Context, id string) (fleet.DeadLetter, bool, error) {
	return s.deadLetter(ctx, id, s.field)
}

// DeadLetterHead returns a dead letter with at most the first 64 KiB of its record. It
// returns false if no dead letter has this id.
func (s *Store) DeadLetterHead(ctx context.Context, id string) (fleet.DeadLetter, bool, error) {
	return s.deadLetter(ctx, id, func(ctx context.Context, key, name string) ([]byte, bool, error) {
		got, err := s.heads(ctx, key, maxHead, name)
		if err != nil {
			return nil, false, err
		}
		return got[0].text, got[0].there, nil
	})
}

func (s *Store) deadLetter(ctx context.Context, id string, raw func(ctx context.Context, key, name string) ([]byte, bool, error)) (fleet.DeadLetter, bool, error) {
	key := s.keys.deadLetter(id)
	values, err := s.c.HMGet(ctx, key, letterFields...).Result()
	if isWrongType(err) {
		return fleet.DeadLetter{}, false, nil
	}
	if err != nil {
		return fleet.DeadLetter{}, false, failure("dead letter", err)
	}
	l, ok := letter(id, values)
	if ok {
		if l.Raw, _, err = raw(ctx, key, "raw"); err != nil {
			return fleet.DeadLetter{}, false, failure("dead letter", err)
		}
	}
	return l, ok, nil
}

// letter builds a dead letter from the values of letterFields. It returns false if all
// are missing.
func letter(id string, values []any) (fleet.DeadLetter, bool) {
	if len(values) < len(letterFields) {
		return fleet.DeadLetter{}, false // the key holds another type
	}
	text := func(i int) string {
		t, _ := values[i].(string)
		return t
	}
	attempts, _ := strconv.Atoi(text(6))
	at, _ := time.Parse(time.RFC3339Nano, text(7))
	_, there := values[3].(string)
	return fleet.DeadLetter{
		ID: id, TaskID: text(0), SessionID: text(1), GroupID: text(2),
		Reason: text(3), Message: text(4), Stderr: text(5), Attempts: attempts, At: at,
	}, there
}

// Requeue requeues the record of a dead letter, byte for byte and with all its attempts,
// at the end of the queue that is claimed last. It undoes the failure that was counted
// for the group, so that the next outcome counts; if that is impossible it refuses,
// unless forced. A repeated call after a lost reply returns [fleet.RequeueGone].
func (s *Store) Requeue(ctx context.Context, id string, force bool) (fleet.Requeued, error) {
	got, err := s.call(ctx, requeueScript, "", s.keys.deadLetter(id), id, flag(force, "force"), countedKeep.Milliseconds(), s.format).Text()
	return fleet.Requeued(got), failure("requeue", err)
}

// Drop deletes a dead letter and reports whether there was one. The failure has already
// been counted for its group.
func (s *Store) Drop(ctx context.Context, id string) (bool, error) {
	n, err := s.call(ctx, dropScript, "", s.keys.deadLetter(id), id, s.format).Int()
	if isNilReply(err) {
		err = nil
	}
	return n == 1, failure("drop", err)
}

// Trimmed is the result of a TrimDead.
type Trimmed struct {
	Many int  // dead letters that were deleted because there were more than are kept
	Old  int  // those that were deleted because they were older than they are kept
	More bool // there may be more to delete
}

// TrimDead deletes a bounded number of the oldest dead letters above
// Options.DeadLetterMax or older than Options.DeadLetterMaxAge. The failures have already
// been counted for their groups.
func (s *Store) TrimDead(ctx context.Context) (Trimmed, error) {
	reply, err := s.call(ctx, trimDeadScript, "", s.keys.own("dead"), s.o.DeadLetterMax, ms(s.o.DeadLetterMaxAge), chunkTrimmed, s.format).Int64Slice()
	if err == nil && len(reply) != 2 {
		err = errReply
	}
	if err != nil {
		return Trimmed{}, failure("trim dead letters", err)
	}
	return Trimmed{Many: int(reply[0]), Old: int(reply[1]), More: reply[0]+reply[1] >= chunkTrimmed}, nil
}
