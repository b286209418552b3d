package report_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// TestNothingIsClaimedWhileTooMuchIsUnreported: claimed records would only add to those
// in flight.
func TestNothingIsClaimedWhileTooMuchIsUnreported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		b.store.delay = time.Second
		b.buffer.Add(outcome(0, task.Succeeded))
		synctest.Wait() // the first call is under way
		for i := range 1000 {
			b.buffer.Add(outcome(1+i, task.Succeeded))
		}
		began := time.Now()
		if err := b.buffer.WaitCapacity(t.Context()); err != nil || time.Since(began) != 3*time.Second {
			t.Errorf("%v after %v, want calls of 1, 256 and 256 to be over", err, time.Since(began))
		}
		began = time.Now()
		if err := b.buffer.WaitCapacity(t.Context()); err != nil || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		b.finish(t)
	})
}

func TestWaitCapacityEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		b.store.set(func() { b.store.down = true })
		for i := range 513 {
			b.buffer.Add(outcome(i, task.Succeeded))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := b.buffer.WaitCapacity(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		b.store.set(func() { b.store.down = false })
		b.finish(t)
	})
}

// TestNothingIsClaimedWhileTooManyBytesAreUnreported: a few large results count as much
// as hundreds of small ones.
func TestNothingIsClaimedWhileTooManyBytesAreUnreported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		b.buffer.MaxBytes = 1000
		b.store.set(func() { b.store.down = true })
		waitCapacity := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			return b.buffer.WaitCapacity(ctx)
		}
		o := outcome(0, task.Succeeded)
		o.Value = make([]byte, 900)
		b.buffer.Add(o)
		if err := waitCapacity(); err != nil {
			t.Errorf("%v below the limit", err)
		}
		o = outcome(1, task.Failed)
		o.Message = "some 100 bytes, and there were 900: " + strings.Repeat("x", 100)
		b.buffer.AddAll([]task.Outcome{o})
		if err := waitCapacity(); !errors.Is(err, context.DeadlineExceeded) || b.buffer.Bytes() <= 1000 {
			t.Errorf("%v with %d bytes", err, b.buffer.Bytes())
		}
		b.store.set(func() { b.store.down = false })
		if err := waitCapacity(); err != nil {
			t.Errorf("%v when all is reported", err)
		}
		b.finish(t)
		if n := b.buffer.Bytes(); n != 0 {
			t.Errorf("%d bytes are left", n)
		}
	})
}
