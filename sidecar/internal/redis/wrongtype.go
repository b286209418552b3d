package redis

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	goredis "github.com/redis/go-redis/v9"
)

// WrongTypeError is the error of a call that found a key of another type than the one
// that the sidecar uses there. Nothing was changed.
type WrongTypeError struct {
	Key        string
	Type, Want string // in the words of Redis: string, list, set, zset, hash
	Err        error  // the reply of Redis
}

func (e *WrongTypeError) Error() string {
	return fmt.Sprintf("the key %s is a %s, and must be a %s: remove or rename it, or use another REDIS_KEY_PREFIX (WRONGTYPE)", e.Key, e.Type, e.Want)
}

// Unwrap returns the reply of Redis.
func (e *WrongTypeError) Unwrap() error { return e.Err }

// types are the types of the keys that all runs of a prefix share, and of those of one run.
func (k keys) types(run string) map[string]string {
	all := map[string]string{
		k.queue(): "list", k.prefix + ":workers": "set",
		k.own("runs"): "set", k.own("format"): "string", k.own("watch"): "hash", k.own("clock"): "hash", k.own("gone"): "zset",
		k.own("paused"): "hash", k.own("unrouted"): "list", k.own("attempts"): "hash", k.own("attempts:at"): "zset",
		k.own("delayed"): "zset", k.own("delayed:records"): "hash", k.own("isolated"): "zset", k.own("dead"): "zset",
	}
	if run != "" {
		for name, kind := range map[string]string{"alive": "string", "inbox": "list", "inflight": "hash", "meta": "hash", "asked": "hash", "info": "string", "orders": "list"} {
			all[k.own(name+":"+run)] = kind
		}
	}
	return all
}

// NameWrongType turns the reply WRONGTYPE, which does not name the key that it is about,
// into a [WrongTypeError]. It looks at the keys that the prefix has once, and at those of
// run if it is not empty. It returns any other error as it is, and err where none of these
// keys has another type.
func (s *Store) NameWrongType(ctx context.Context, err error, run string) error {
	if named := new(WrongTypeError); !isWrongType(err) || errors.As(err, &named) {
		return err
	}
	want := s.keys.types(run)
	replies := make(map[string]*goredis.StatusCmd, len(want))
	_, _ = s.c.Pipelined(ctx, func(p goredis.Pipeliner) error {
		for key := range want {
			replies[key] = p.Type(ctx, key)
		}
		return nil
	})
	for _, key := range slices.Sorted(maps.Keys(replies)) {
		if got, failed := replies[key].Result(); failed == nil && got != want[key] && got != "none" {
			return &WrongTypeError{Key: key, Type: got, Want: want[key], Err: err}
		}
	}
	return err
}
