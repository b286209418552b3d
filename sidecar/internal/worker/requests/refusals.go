package requests

import (
	"context"
	"errors"
	"fmt"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
)

// refusals are answers about a request, which say nothing bad about Redis.
var refusals = []struct {
	err  error
	code protocol.Code
}{
	{redis.ErrEnded, protocol.CodeDeliveryEnded},
	{redis.ErrKind, protocol.CodeInvalidParams},
	{redis.ErrNumber, protocol.CodeInvalidParams},
	{redis.ErrTooMuch, protocol.CodeInvalidParams},
	{protocol.ErrNotText, protocol.CodeInvalidParams},
}

func refusal(err error) bool {
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return true
		}
	}
	_, ok := errors.AsType[*protocol.Error](err)
	return ok
}

// about makes of an error what the worker is told about a key. Nil stays
// nil, and the end of the delivery what it is.
func about(key string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	for _, r := range refusals {
		if !errors.Is(err, r.err) {
			continue
		}
		if key == "" {
			return protocol.Errorf(r.code, "%v", err)
		}
		return protocol.Errorf(r.code, "%v: %.200q", err, key)
	}
	if _, ok := errors.AsType[*protocol.Error](err); ok {
		return err
	}
	if rejected, ok := errors.AsType[*redis.RejectedError](err); ok {
		return protocol.Errorf(protocol.CodeInvalidParams, "%s", rejected.Explain("value"))
	}
	return fmt.Errorf("redis refuses the request: %w", err)
}
