package redis

import (
	"context"
	"errors"
	"fmt"
	"net"

	goredis "github.com/redis/go-redis/v9"
)

// dialError marks an error that occurred before there was a connection. A Sentinel that
// knows no master answers with nil, and go-redis wraps that answer: errors.Is would find
// goredis.Nil in it and treat an outage as "the key does not exist".
type dialError struct{ err error }

func (e *dialError) Error() string {
	if errors.Is(e.err, goredis.Nil) {
		return "the sentinels know no master of this name: " + e.err.Error()
	}
	return e.err.Error()
}

func (e *dialError) Unwrap() error { return e.err }

// noMaster reports whether err comes from Sentinels that know no master.
func noMaster(err error) bool {
	dial, ok := errors.AsType[*dialError](err)
	return ok && errors.Is(dial.err, goredis.Nil)
}

// isNilReply reports whether err is the reply nil: the key does not exist, or the wait
// brought nothing. Only this function may decide that.
func isNilReply(err error) bool {
	_, dial := errors.AsType[*dialError](err)
	return !dial && errors.Is(err, goredis.Nil)
}

// isWrongType reports whether err is the reply that a key has another type. A read of the
// key of one run or one dead letter treats it like a missing key: one such key must not
// hide all others.
func isWrongType(err error) bool {
	var reply goredis.Error
	return errors.As(err, &reply) && goredis.HasErrorPrefix(err, "WRONGTYPE ")
}

// isReply reports whether err is a reply of the server, nil or an error, as opposed to a
// missing reply.
func isReply(err error) bool {
	var reply goredis.Error
	_, dial := errors.AsType[*dialError](err)
	return !dial && errors.As(err, &reply)
}

// dialHook marks the errors of new connections as [dialError].
type dialHook struct{}

func (dialHook) DialHook(next goredis.DialHook) goredis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			err = &dialError{err}
		}
		return conn, err
	}
}

func (dialHook) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook { return next }

func (dialHook) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}

// setName sets the name of a new connection in CLIENT LIST. It ignores errors: the server
// may not have CLIENT, or the user may not be permitted to use it.
func setName(name string) func(context.Context, *goredis.Conn) error {
	return func(ctx context.Context, c *goredis.Conn) error {
		if err := c.ClientSetName(ctx, name).Err(); err != nil && !isReply(err) {
			return fmt.Errorf("name the connection: %w", err)
		}
		return nil
	}
}
