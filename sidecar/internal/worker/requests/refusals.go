package requests

import (
	"context"
	"errors"
	"fmt"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
)

// refusals are the errors of Redis that concern one request only.
var refusals = []struct {
	err  error
	code protocol.Code
}{
	{redis.ErrEnded, protocol.CodeDeliveryEnded},
	{redis.ErrType, protocol.CodeInvalidParams},
	{redis.ErrNumber, protocol.CodeInvalidParams},
	{redis.ErrTooMuch, protocol.CodeInvalidParams},
	{protocol.ErrNotText, protocol.CodeInvalidParams},
}

func isRefusal(err error) bool {
	for _, r := range refusals {
		if errors.Is(err, r.err) {
			return true
		}
	}
	_, ok := errors.AsType[*protocol.Error](err)
	return ok
}

// workerError turns an error about a key into the answer to the worker. It returns nil and
// the end of the delivery unchanged.
func workerError(key string, err error) error {
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
