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

// TestNothingIsClaimedWhileTooMuchIsUnreported: what would be claimed could only
// lie in flight.
func TestNothingIsClaimedWhileTooMuchIsUnreported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		b.store.delay = time.Second
		b.box.Add(outcome(0, task.Succeeded))
		synctest.Wait() // the first call is on its way
		for i := range 1000 {
			b.box.Add(outcome(1+i, task.Succeeded))
		}
		began := time.Now()
		if err := b.box.WaitCapacity(t.Context()); err != nil || time.Since(began) != 3*time.Second {
			t.Errorf("%v after %v, want calls of 1, 256 and 256 to be over", err, time.Since(began))
		}
		began = time.Now()
		if err := b.box.WaitCapacity(t.Context()); err != nil || time.Since(began) != 0 {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		b.finish(t)
	})
}

func TestTheWaitForRoomEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		b.store.set(func() { b.store.down = true })
		for i := range 513 {
			b.box.Add(outcome(i, task.Succeeded))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := b.box.WaitCapacity(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		b.store.set(func() { b.store.down = false })
		b.finish(t)
	})
}

// TestNothingIsClaimedWhileTooManyBytesAreUnreported: a few large results are as much
// as hundreds of small ones.
func TestNothingIsClaimedWhileTooManyBytesAreUnreported(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t)
		b.box.MaxBytes = 1000
		b.store.set(func() { b.store.down = true })
		room := func() error {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			return b.box.WaitCapacity(ctx)
		}
		o := outcome(0, task.Succeeded)
		o.Value = make([]byte, 900)
		b.box.Add(o)
		if err := room(); err != nil {
			t.Errorf("%v below the limit", err)
		}
		o = outcome(1, task.Failed)
		o.Message = "some 100 bytes, and there were 900: " + strings.Repeat("x", 100)
		b.box.AddAll([]task.Outcome{o})
		if err := room(); !errors.Is(err, context.DeadlineExceeded) || b.box.Bytes() <= 1000 {
			t.Errorf("%v with %d bytes", err, b.box.Bytes())
		}
		b.store.set(func() { b.store.down = false })
		if err := room(); err != nil {
			t.Errorf("%v when all is reported", err)
		}
		b.finish(t)
		if n := b.box.Bytes(); n != 0 {
			t.Errorf("%d bytes are left", n)
		}
	})
}
