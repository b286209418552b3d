package redis

import (
	"context"

	goredis "github.com/redis/go-redis/v9"
)

// Value is the value of one key of a channel.
type Value struct {
	Found bool
	Text  []byte // JSON, byte for byte
	// WrongType reports that the key exists and holds another type than a string.
	WrongType bool
}

// Get reads keys at one moment, in one exchange with Redis.
func (c *Channel) Get(ctx context.Context, keys ...string) ([]Value, error) {
	commands := make([]*goredis.StringCmd, len(keys))
	read := func(p goredis.Pipeliner) {
		for i, key := range keys {
			commands[i] = p.Get(ctx, c.prefix+key)
		}
	}
	switch len(keys) {
	case 0:
		return nil, nil
	case 1:
		commands[0] = c.s.c.Get(ctx, c.prefix+keys[0])
	default:
		if _, err := c.s.c.TxPipelined(ctx, func(p goredis.Pipeliner) error { read(p); return nil }); err != nil && !ofOneKey(err) {
			return nil, failure("channel get", err)
		}
	}
	values := make([]Value, len(keys))
	for i, command := range commands {
		text, err := command.Bytes()
		switch {
		case err == nil:
			values[i] = Value{Found: true, Text: text}
		case isNilReply(err):
		case ofOneKey(err):
			values[i] = Value{Found: true, WrongType: true}
		default:
			return nil, failure("channel get", err)
		}
	}
	return values, nil
}

// ofOneKey reports whether an error concerns the key of one command only and not the
// connection.
func ofOneKey(err error) bool {
	return isNilReply(err) || goredis.HasErrorPrefix(err, "WRONGTYPE ")
}

// Exists reports whether a key of any type exists.
func (c *Channel) Exists(ctx context.Context, key string) (bool, error) {
	n, err := c.s.c.Exists(ctx, c.prefix+key).Result()
	return n > 0, failure("channel exists", err)
}
