package health_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/health"
)

// TestATaskThatWorksIsNotCutShort: one task waits for a Redis that is gone, and
// another works: the stop waits for the one that works for its whole share.
func TestATaskThatWorksIsNotCutShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &health.StopWait{Limit: 8 * time.Second, Log: slog.New(slog.DiscardHandler)}
		began, waiting := time.Now(), 1
		var tasks atomic.Int32
		tasks.Store(2)
		only := func() (int, time.Time) {
			running := int(tasks.Load())
			if waiting < running {
				return 0, time.Time{}
			}
			return running, began
		}
		soft, stop := context.WithCancel(t.Context())
		stop()
		bounded, release := w.Bound(soft, t.Context(), "tasks", only)
		defer release()
		time.Sleep(time.Minute)
		if bounded.Err() != nil {
			t.Fatal("the task that works was cut short")
		}
		tasks.Store(1) // it has ended
		<-bounded.Done()
		if !w.Over() {
			t.Error("the wait is not over")
		}
		if got := fmt.Sprint(context.Cause(bounded)); got != "context canceled" {
			t.Error(got)
		}
	})
}

// TestAnOutageIsWaitedForOnce: what a stage has waited for in vain the next one does
// not wait for again; another outage has its own time.
func TestAnOutageIsWaitedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &health.StopWait{Limit: 8 * time.Second, Log: slog.New(slog.DiscardHandler)}
		since := time.Now()
		run := func() time.Duration {
			began := time.Now()
			bounded, release := w.Bound(stopped(t), t.Context(), "outcomes", func() (int, time.Time) { return 1, since })
			defer release()
			<-bounded.Done()
			return time.Since(began)
		}
		if took := run(); took != 8*time.Second {
			t.Errorf("the first stage waited %v", took)
		}
		if took := run(); took != 0 {
			t.Errorf("the second stage waited %v", took)
		}
		since = time.Now().Add(time.Second) // it was back
		time.Sleep(time.Second)
		if took := run(); took != 8*time.Second {
			t.Errorf("a new outage was waited for %v", took)
		}
	})
}

func stopped(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}
