package protocol

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestTaskContext(t *testing.T) {
	type key struct{}
	sidecarGone := errors.New("gone")
	fresh := func(deadline time.Time) (*taskContext, context.CancelCauseFunc) {
		base, cancel := context.WithCancelCause(context.WithValue(context.Background(), key{}, "value"))
		c := new(taskContext)
		c.init(base, deadline)
		return c, cancel
	}
	for _, tt := range []struct {
		name     string
		deadline time.Duration
		do       func(c *taskContext, base context.CancelCauseFunc)
		err      error
		cause    error
	}{
		{"nothing", 0, func(*taskContext, context.CancelCauseFunc) {}, nil, nil},
		{"a cancel", 0, func(c *taskContext, _ context.CancelCauseFunc) { c.cancel(CodeCancelled) }, context.Canceled, CodeCancelled},
		{"two cancels", 0, func(c *taskContext, _ context.CancelCauseFunc) { c.cancel(CodeCancelled); c.cancel(sidecarGone) }, context.Canceled, CodeCancelled},
		{"the end", 0, func(c *taskContext, _ context.CancelCauseFunc) { c.end() }, context.Canceled, context.Canceled},
		{"a cancel, and the end", time.Second, func(c *taskContext, _ context.CancelCauseFunc) { c.cancel(CodeCancelled); c.end() }, context.Canceled, CodeCancelled},
		{"the parent's end", 0, func(_ *taskContext, base context.CancelCauseFunc) { base(sidecarGone) }, context.Canceled, sidecarGone},
		{"the deadline", time.Second, func(*taskContext, context.CancelCauseFunc) { time.Sleep(2 * time.Second) }, context.DeadlineExceeded, context.DeadlineExceeded},
	} {
		for _, looked := range []bool{false, true} {
			name := tt.name + ", not looked at before"
			if looked {
				name = tt.name + ", looked at before"
			}
			t.Run(name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var deadline time.Time
					if tt.deadline > 0 {
						deadline = time.Now().Add(tt.deadline)
					}
					c, base := fresh(deadline)
					defer base(nil)
					defer c.end()
					var derived context.Context
					if looked {
						var cancel context.CancelFunc
						derived, cancel = context.WithCancel(c)
						defer cancel()
					}
					tt.do(c, base)
					if derived == nil {
						var cancel context.CancelFunc
						derived, cancel = context.WithCancel(c)
						defer cancel()
					}
					synctest.Wait()
					for which, ctx := range map[string]context.Context{"itself": c, "a derived one": derived} {
						if err := ctx.Err(); !errors.Is(err, tt.err) {
							t.Errorf("%s: Err is %v, want %v", which, err, tt.err)
						}
						if cause := context.Cause(ctx); !errors.Is(cause, tt.cause) {
							t.Errorf("%s: the cause is %v, want %v", which, cause, tt.cause)
						}
						select {
						case <-ctx.Done():
							if tt.err == nil {
								t.Errorf("%s: done", which)
							}
						default:
							if tt.err != nil {
								t.Errorf("%s: not done", which)
							}
						}
						if v := ctx.Value(key{}); v != "value" {
							t.Errorf("%s: the value is %v", which, v)
						}
						if got, ok := ctx.Deadline(); !got.Equal(deadline) || ok != (tt.deadline > 0) {
							t.Errorf("%s: the deadline is %v, %v", which, got, ok)
						}
					}
				})
			})
		}
	}
}
