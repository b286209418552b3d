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

// Errors of a [Channel]. None of them is a failure of Redis. All but ErrEnded are errors
// of the task that made the request. Use errors.Is.
var (
	// ErrEnded means that the delivery is not in flight (any more).
	ErrEnded = errors.New("the delivery has ended")
	// ErrType means that the key holds a value of another type. Nothing was changed.
	ErrType = errors.New("the key holds another kind of value")
	// ErrNumber means that the value, the amount or the sum is not a number that Redis
	// can add. Nothing was changed.
	ErrNumber = errors.New("not a number that can be added")
	// ErrTooMuch means that the answer is longer than the caller allows.
	ErrTooMuch = errors.New("too much for one answer")
	// ErrNoChannels means that Redis is a Cluster, where Graflow's channel keys have no
	// hash tag.
	ErrNoChannels = errors.New("a Redis Cluster has no Graflow channels: their keys have no hash tag, so give the task what it needs in its record")
)

// errOvertaken means that a later change of the same lane was applied before this one
// arrived. No caller waits for its answer.
var errOvertaken = errors.New("overtaken by a later change")

// Turn identifies one change, so that it can be repeated after an error: Redis applies it
// once and returns the same answer. Redis stores each lane, so there are few lanes. A
// lane has one change at a time, and N grows with each change of the lane.
type Turn struct {
	Lane int
	N    int64
}

// Channel gives one delivery access to the Graflow channel of a session, as
// graflow/channels/redis_channel.py does. Values are JSON text, byte for byte. Methods
// that change something take a [Turn]; the others can be repeated without one. A Channel
// is safe for concurrent use.
type Channel struct {
	s        *Store
	prefix   string
	delivery string
	run      string
}

// Channel returns the channel of a session for a delivery. Redis need not know the
// delivery yet. It returns [ErrNoChannels] on a Cluster.
func (s *Store) Channel(session, delivery string) (*Channel, error) {
	if _, cluster := s.c.(*goredis.ClusterClient); cluster {
		return nil, ErrNoChannels
	}
	return &Channel{s: s, prefix: channelPrefix + session + ":", delivery: delivery, run: runOf(delivery)}, nil
}

// runOf returns the run of a delivery.
func runOf(delivery string) string {
	if i := strings.LastIndexByte(delivery, '.'); i >= 0 {
		return delivery[:i]
	}
	return delivery
}

//go:embed channel.lua
var channelLua string

// change returns the script of one change: the common part and its source.
func change(source string) scripted { return joined(channelLua, []string{source}) }

// Values of ARGV[5] of the change scripts.
const (
	grows   = "grows"
	shrinks = ""
)

// lanesKeep is the time within which an unanswered change can be repeated.
const lanesKeep = 24 * time.Hour

// change runs a change script. An empty delivery stands for one that may have ended.
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
		return "", ErrType
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

// number parses a count from the reply of a script.
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

// ms converts a duration to milliseconds. A positive duration never becomes 0, which the
// scripts treat as none.
func ms(d time.Duration) int64 {
	if d > 0 {
		return max(d.Milliseconds(), 1)
	}
	return 0
}
