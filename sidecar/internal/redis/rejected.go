package redis

import (
	"context"
	"encoding"
	"errors"
	"fmt"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

// RejectedError is the error of a call that Redis never accepts, because one of its
// arguments is longer than proto-max-bulk-len. Nothing was changed.
type RejectedError struct {
	Size  int64 // bytes of the longest argument
	Limit int64 // proto-max-bulk-len; 0 if unknown
	Err   error // the reply of Redis
}

func (e *RejectedError) Error() string { return e.Explain("argument") }

// Unwrap returns the reply of Redis.
func (e *RejectedError) Unwrap() error { return e.Err }

// Explain returns the error with the given name for the argument, such as "result".
func (e *RejectedError) Explain(what string) string {
	text := what + " of " + megabytes(e.Size) + " is larger than Redis accepts"
	switch {
	case e.Limit <= 0:
		return text + " (proto-max-bulk-len)"
	case e.Size <= e.Limit:
		return fmt.Sprintf("%s of %s is refused by Redis: %v", what, megabytes(e.Size), e.Err)
	default:
		return text + " (" + megabytes(e.Limit) + ")"
	}
}

// megabytes formats a size, with one decimal unless that is 0.
func megabytes(n int64) string {
	return strings.TrimSuffix(strconv.FormatFloat(float64(n)/1e6, 'f', 1, 64), ".0") + " MB"
}

// rejections are the prefixes of replies that reject an argument permanently.
var rejections = []string{"Protocol error: invalid bulk length", "string exceeds maximum allowed size"}

func isRejection(err error) bool {
	if rejected := new(RejectedError); errors.As(err, &rejected) {
		return true
	}
	said := ""
	var last *lastReply
	var reply goredis.Error
	switch {
	case errors.As(err, &last):
		said = last.text
	case errors.As(err, &reply):
		said = reply.Error()
	}
	for _, begin := range rejections {
		if strings.HasPrefix(strings.TrimPrefix(said, "ERR "), begin) {
			return true
		}
	}
	return false
}

// rejected converts an error that rejects an argument to a [RejectedError], for a call
// with these arguments.
func (s *Store) rejected(ctx context.Context, err error, argv []any) error {
	if err == nil || !isRejection(err) {
		return err
	}
	e := &RejectedError{Err: err}
	for _, arg := range argv {
		e.Size = max(e.Size, argumentSize(arg))
	}
	e.Limit, _ = s.MaxArgument(ctx)
	return e
}

func argumentSize(arg any) int64 {
	switch v := arg.(type) {
	case string:
		return int64(len(v))
	case *string:
		return int64(len(*v))
	case []byte:
		return int64(len(v))
	case *part:
		return int64(len(*v))
	case encoding.BinaryMarshaler:
		b, _ := v.MarshalBinary()
		return int64(len(b))
	default:
		return 0
	}
}

// MaxArgument returns the maximum number of bytes of one argument, such as a record or a
// result. It returns false if Redis does not report it.
func (s *Store) MaxArgument(ctx context.Context) (int64, bool) {
	const name = "proto-max-bulk-len"
	values, err := s.c.ConfigGet(ctx, name).Result()
	if err != nil && !isReply(err) {
		values, err = s.c.ConfigGet(ctx, name).Result() // on a connection that is not being closed
	}
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(values[name], 10, 64)
	return n, err == nil && n > 0
}

// Unsent reports whether an error means that the call certainly did not reach Redis.
func Unsent(err error) bool {
	_, dial := errors.AsType[*dialError](err)
	return dial
}
