package redis

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// Info returns the fields of INFO by name. It returns an error if the server refuses
// INFO.
func (s *Store) Info(ctx context.Context) (map[string]string, error) {
	text, err := s.c.Info(ctx, "everything").Result()
	if err != nil {
		return nil, failure("info", err)
	}
	return infoFields(text), nil
}

// Time returns the clock of the server.
func (s *Store) Time(ctx context.Context) (time.Time, error) {
	t, err := s.c.Time(ctx).Result()
	return t, failure("time", err)
}

// Tag returns the hash tag of the key prefix, or "".
func (s *Store) Tag() string { return hashTag(s.o.Prefix) }

// Permission is the result of trying one kind of operation of a sidecar.
type Permission struct {
	What string // includes the names of the commands
	Err  error
}

// trialKeep is the time to live of the keys of a trial that cannot delete them.
const trialKeep = time.Minute

// TryPermissions tries the operations of a sidecar once, on keys of its own that it
// removes. Only a trial shows how an ACL treats scripts, keys and channels together. It
// returns an error if Redis is unreachable.
func (s *Store) TryPermissions(ctx context.Context) ([]Permission, error) {
	id := rand.Text()
	key, session := s.keys.own("trial:"+id), channelPrefix+"sidecar-trial:"+id
	hash, list, set, sorted := key+":hash", key+":list", key+":set", key+":sorted"
	steps := []struct {
		what string
		do   func() error
	}{
		{"scripts (eval, evalsha, pexpire)", func() error {
			return s.call(ctx, trialScript, "", key).Err()
		}},
		{"strings (set, get, del, exists)", func() error {
			return errors.Join(s.c.Set(ctx, key, 1, trialKeep).Err(), s.c.Get(ctx, key).Err(), s.c.Exists(ctx, key).Err())
		}},
		{"lists (rpush, lrange, llen, lpop, blmove)", func() error {
			return errors.Join(s.c.RPush(ctx, list, "1", "2").Err(), s.c.PExpire(ctx, list, trialKeep).Err(), s.c.LRange(ctx, list, 0, -1).Err(),
				s.c.LLen(ctx, list).Err(), s.c.BLMove(ctx, list, list, "LEFT", "RIGHT", time.Second).Err(), s.c.LPopCount(ctx, list, 9).Err())
		}},
		{"hashes (hset, hgetall, hmget, hdel, hlen)", func() error {
			return errors.Join(s.c.HSet(ctx, hash, "f", "1").Err(), s.c.HGetAll(ctx, hash).Err(), s.c.HMGet(ctx, hash, "f").Err(),
				s.c.HLen(ctx, hash).Err(), s.c.HDel(ctx, hash, "f").Err())
		}},
		{"sets (sadd, smembers, smismember, srem)", func() error {
			return errors.Join(s.c.SAdd(ctx, set, "m").Err(), s.c.SMembers(ctx, set).Err(), s.c.SMIsMember(ctx, set, "m").Err(), s.c.SRem(ctx, set, "m").Err())
		}},
		{"sorted sets (zadd, zrange, zrevrange, zcard, zrem)", func() error {
			return errors.Join(s.c.ZAdd(ctx, sorted, goredis.Z{Score: 1, Member: "m"}).Err(), s.c.ZRange(ctx, sorted, 0, -1).Err(),
				s.c.ZRevRange(ctx, sorted, 0, -1).Err(), s.c.ZCard(ctx, sorted).Err(), s.c.ZRem(ctx, sorted, "m").Err())
		}},
		{"the channel of barriers (publish)", func() error {
			return s.c.Publish(ctx, s.keys.barrierDone("sidecar-trial"), "trial").Err()
		}},
		{"the clock (time)", func() error { return s.c.Time(ctx).Err() }},
		{"the keys of Graflow's channels, " + channelPrefix + "* (set, get, del)", func() error {
			return errors.Join(s.c.Set(ctx, session, 1, trialKeep).Err(), s.c.Get(ctx, session).Err(), s.c.Del(ctx, session).Err())
		}},
	}
	var out []Permission
	for _, step := range steps {
		err := step.do()
		if err != nil && Classify(err) != ClassFatal && !isReply(err) {
			return out, failure("permissions", err)
		}
		out = append(out, Permission{step.what, err})
	}
	for _, k := range []string{key, hash, list, set, sorted} {
		_ = s.c.Del(ctx, k).Err() // they are empty or expire
	}
	return out, nil
}

var trialScript = script("return redis.call('TIME')\n")

// EvictionPolicy returns the eviction policy of the server, or "" if the server does not
// report it.
func (s *Store) EvictionPolicy(ctx context.Context) (policy string, err error) {
	text, err := s.c.Info(ctx, "memory").Result()
	if err != nil {
		return "", failure("info", err)
	}
	return infoFields(text)["maxmemory_policy"], nil
}

func infoFields(text string) map[string]string {
	fields := make(map[string]string)
	for line := range strings.SplitSeq(text, "\n") {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}
