package web

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/observe"
)

// TestAProbeDoesNotHangWithALock: it fails once the state could not be read for
// longer than any lock is held, and is well again when it can be.
func TestAProbeDoesNotHangWithALock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l prober
		lock := make(chan struct{})
		var reads atomic.Int32
		read := func() observe.Health {
			reads.Add(1)
			<-lock
			return observe.Health{Alive: true, Ready: true}
		}
		for _, alive := range []bool{true, false, false} {
			began := time.Now()
			h := l.health(read)
			if took := time.Since(began); h.Alive != alive || h.Ready || len(h.Reasons) == 0 || took != lookPatience {
				t.Errorf("%+v after %v, want alive=%t", h, took, alive)
			}
			time.Sleep(lookLimit)
		}
		if n := reads.Load(); n != 1 {
			t.Errorf("%d goroutines read the state", n)
		}
		close(lock)
		synctest.Wait()
		if h := l.health(read); !h.Alive || !h.Ready {
			t.Errorf("%+v when the lock is free", h)
		}
		if h := l.health(func() observe.Health { panic("no state") }); !h.Alive || h.Ready || len(h.Reasons) == 0 {
			t.Errorf("%+v after a panic", h)
		}
	})
}
