package redis

import (
	"context"
	_ "embed" // the scripts' common part
	"errors"
	"fmt"
	"strings"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// What a [Channel] says about a request. None of them is a failure of Redis,
// and all but the first are the asking task's to mend. Use errors.Is.
var (
	// ErrEnded: the delivery is not in flight (any more).
	ErrEnded = errors.New("the delivery has ended")
	// ErrKind: the key holds another kind of value, and nothing was changed.
	ErrKind = errors.New("the key holds another kind of value")
	// ErrNumber: the value, the amount or the sum is no number that Redis can
	// add, and nothing was changed.
	ErrNumber = errors.New("not a number that can be added")
	// ErrTooMuch: the answer would be longer than the caller allows.
	ErrTooMuch = errors.New("too much for one answer")
	// ErrNoChannels: this Redis is a Cluster, and Graflow's channel keys have no
	// hash tag.
	ErrNoChannels = errors.New("a Redis Cluster has no Graflow channels: their keys have no hash tag, so give the task what it needs in its record")
)

// errOvertaken: a later change of the same lane was made before this one
// arrived. Nobody waits for its answer.
var errOvertaken = errors.New("overtaken by a later change")

// Turn names one change, so that it may be sent again after an error: Redis
// does it once and answers the same. Lanes are few (each is remembered in
// Redis), a lane has one change at a time, and N grows with each one of a lane.
type Turn struct {
	Lane int
	N    int64
}

// Channel is the Graflow channel of one session as one delivery may use it:
// graflow/channels/redis_channel.py in Go. Values are JSON text, byte for byte.
// Methods that change something take a [Turn]; the others may just be repeated.
// A Channel is safe for concurrent use.
type Channel struct {
	s        *Store
	prefix   string
	delivery string
	run      string
}

// Channel returns the channel of a session for a delivery, which need not be
// known to Redis yet; it fails with [ErrNoChannels] on a Cluster.
func (s *Store) Channel(session, delivery string) (*Channel, error) {
	if _, cluster := s.c.(*goredis.ClusterClient); cluster {
		return nil, ErrNoChannels
	}
	return &Channel{s: s, prefix: channelPrefix + session + ":", delivery: delivery, run: runOf(delivery)}, nil
}

// runOf is the run that a delivery belongs to.
func runOf(delivery string) string {
	if i := strings.LastIndexByte(delivery, '.'); i >= 0 {
		return delivery[:i]
	}
	return delivery
}

//go:embed channel.lua
var channelLua string

// change is the Lua source of one change behind their common part.
func change(source string) scripted { return joined(channelLua, []string{source}) }

// What change scripts are told about themselves.
const (
	grows   = "grows"
	shrinks = ""
)

// lanesKeep is how long an unanswered change may be sent again.
const lanesKeep = 24 * time.Hour

// change runs one of the change scripts. An empty delivery is one that may have
// ended.
func (s *Store) change(ctx context.Context, op string, sc scripted, t Turn, run, delivery, key, growth string, args ...any) (string, error) {
	argv := append(make([]any, 0, 5+len(args)), delivery, t.Lane, t.N, lanesKeep.Milliseconds(), growth)
	argv = append(argv, args...)
	reply, err := sc().Run(ctx, s.c, []string{s.keys.asked(run), s.keys.inflight(run), key}, argv...).StringSlice()
	switch {
	case err != nil:
		return "", failure(op, s.rejected(ctx, err, append(argv, key)))
	case len(reply) != 2:
		return "", failure(op, errReply)
	}
	switch reply[0] {
	case "ok":
		return reply[1], nil
	case "ended":
		return "", ErrEnded
	case "kind":
		return "", ErrKind
	case "number":
		return "", ErrNumber
	case "overtaken":
		return "", failure(op, errOvertaken)
	default:
		return "", failure(op, errReply)
	}
}

func (c *Channel) change(ctx context.Context, op string, sc scripted, t Turn, key, growth string, args ...any) (string, error) {
	return c.s.change(ctx, op, sc, t, c.run, c.delivery, c.prefix+key, growth, args...)
}

// number reads a count that a script has answered.
func number(op, reply string, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	var n int64
	if _, err := fmt.Sscan(reply, &n); err != nil {
		return 0, failure(op, errReply)
	}
	return n, nil
}

// ms is a duration as Redis takes it; a positive one is never 0, which the
// scripts read as none.
func ms(d time.Duration) int64 {
	if d > 0 {
		return max(d.Milliseconds(), 1)
	}
	return 0
}
