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
	return "the key " + e.what() + ": remove or rename it, or use another REDIS_KEY_PREFIX (WRONGTYPE)"
}

func (e *WrongTypeError) what() string {
	return fmt.Sprintf("%s is a %s, and must be a %s", e.Key, e.Type, e.Want)
}

// Unwrap returns the reply of Redis.
func (e *WrongTypeError) Unwrap() error { return e.Err }

// types are the types of the keys that all runs of a prefix share, and of those of one run.
func (k keys) types(run string) map[string]string {
	all := map[string]string{
		k.queue(): "list", k.prefix + ":workers": "set",
		k.own("runs"): "set", k.own("format"): "string", k.own("queue"): "string", k.own("watch"): "hash", k.own("clock"): "hash", k.own("gone"): "zset",
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
	// An error is not told: the reply is the better one.
	if wrong, _ := s.wrongTypes(ctx, run); len(wrong) > 0 {
		wrong[0].Err = err
		return wrong[0]
	}
	return err
}

// WrongTypes returns the keys of the prefix that have another type than the sidecar
// expects, one line for each.
func (s *Store) WrongTypes(ctx context.Context) ([]string, error) {
	wrong, err := s.wrongTypes(ctx, "")
	lines := make([]string, len(wrong))
	for i, w := range wrong {
		lines[i] = w.what()
	}
	return lines, failure("types", err)
}

// wrongTypes returns the keys of the prefix, and of a run, that have another type than the
// sidecar expects, sorted by their names.
func (s *Store) wrongTypes(ctx context.Context, run string) (wrong []*WrongTypeError, err error) {
	want := s.keys.types(run)
	names := slices.Sorted(maps.Keys(want))
	replies, err := s.c.Pipelined(ctx, func(p goredis.Pipeliner) error {
		for _, key := range names {
			p.Type(ctx, key)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i, key := range names {
		if got := replies[i].(*goredis.StatusCmd).Val(); got != want[key] && got != "none" {
			wrong = append(wrong, &WrongTypeError{Key: key, Type: got, Want: want[key]})
		}
	}
	return wrong, nil
}
