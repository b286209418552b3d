package requests

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
)

// redis repeats one operation until Redis has done it or ctx ends. It waits out
// errors that pass; any other error is the answer.
func (a *Server) redis(ctx context.Context, do func(redis.Turn) error) error {
	var lane *redis.Turn
	select {
	case lane = <-a.lanes:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { a.lanes <- lane }()
	lane.N++
	pause := backoff.New(a.mon.Pause)
	for {
		if err := a.mon.WaitReached(ctx); err != nil {
			return err
		}
		err := do(*lane)
		switch class := redis.Classify(err); {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case class == redis.ClassCanceled:
			// The connections are closed: the task is about to be cut short, and an
			// error would make it report a failure before that.
			<-ctx.Done()
			return ctx.Err()
		case refusal(err), class != redis.ClassTransient:
			return err
		}
		a.failed(err)
		if a.mon.WaitReached(ctx) == nil {
			pause.Sleep(ctx)
		}
	}
}

// failed logs a failure that passes. It tells the monitor of a lost Redis only: where
// Redis refuses some operations and serves others, the claims and reports set the
// monitor's state, and a second source would have Redis lost and back all the time.
func (a *Server) failed(err error) {
	if !redis.Answered(err) {
		a.mon.Failed(err)
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if time.Since(a.said) >= refusalReminder {
		a.said = time.Now()
		a.log.Warn("redis refuses a request of a worker: the request waits", "class", redis.ClassName(err), "error", err.Error())
	}
}

// refusalReminder is between two lines about that.
const refusalReminder = 10 * time.Second

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
