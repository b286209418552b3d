package redis

import (
	"context"
	"errors"
	"fmt"
	"net"

	goredis "github.com/redis/go-redis/v9"
)

// dialError marks what went wrong before there was a connection. A Sentinel that
// knows no master answers with nil, and go-redis wraps that answer: errors.Is would
// find goredis.Nil in it, and read an outage as "the key does not exist".
type dialError struct{ err error }

func (e *dialError) Error() string {
	if errors.Is(e.err, goredis.Nil) {
		return "the sentinels know no master of this name: " + e.err.Error()
	}
	return e.err.Error()
}

func (e *dialError) Unwrap() error { return e.err }

// noMaster reports whether err is that of Sentinels that know no master.
func noMaster(err error) bool {
	dial, ok := errors.AsType[*dialError](err)
	return ok && errors.Is(dial.err, goredis.Nil)
}

// isNilReply reports whether err is the server's reply nil: the key, or what was
// waited for, does not exist. It is the only function that may decide that.
func isNilReply(err error) bool {
	_, dial := errors.AsType[*dialError](err)
	return !dial && errors.Is(err, goredis.Nil)
}

// isWrongType reports whether err is Redis' answer that a key holds another kind of
// value. For a key of one run or one dead letter, and for a command that only looks,
// that is no more than one that does not exist: it must not hide all the others.
func isWrongType(err error) bool {
	var reply goredis.Error
	return errors.As(err, &reply) && goredis.HasErrorPrefix(err, "WRONGTYPE ")
}

// isReply reports whether err is a reply of the server, nil or an error, as opposed
// to no reply at all.
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

// setName names a new connection in CLIENT LIST. A server without CLIENT, or a
// user without the permission, is no reason to do without the connection.
func setName(name string) func(context.Context, *goredis.Conn) error {
	return func(ctx context.Context, c *goredis.Conn) error {
		if err := c.ClientSetName(ctx, name).Err(); err != nil && !isReply(err) {
			return fmt.Errorf("name the connection: %w", err)
		}
		return nil
	}
}
