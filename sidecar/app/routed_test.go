package app

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// A claim's kind is a task's route, also where it is none.
func TestKindsAreRoutes(t *testing.T) {
	if redis.KindUnknown != task.RouteUnknown || redis.KindNone != task.RouteNone {
		t.Error("the store and the claim stage have different numbers for no kind")
	}
	route := (&App{cfg: config.Config{Kinds: []config.Kind{{Pattern: "a*"}, {Pattern: "*b"}}}}).routes()
	for id, want := range map[string]int{"ab": 0, "cb": 1, "c": task.RouteNone} {
		if got := route(id); got != want {
			t.Errorf("%s: %d, want %d", id, got, want)
		}
	}
}

// TestWaitingWithKinds: a blocking wait on Redis, which here there is none of, is
// for an empty queue and a free slot only.
func TestWaitingWithKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &routed{claims: &claims{}, queue: dispatch.NewKinds(2, dispatch.Exits{})}
		waits := func() time.Duration {
			t.Helper()
			began := time.Now()
			if _, err := r.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			return time.Since(began)
		}
		if d := waits(); d != 0 {
			t.Errorf("no slot is free: waited %v", d)
		}
		r.queue.Kind(1).AddCapacity(1)
		r.left = 3
		if d := waits(); d != 0 {
			t.Errorf("a slot has just become free: waited %v", d)
		}
		if d := waits(); d != slotPatience {
			t.Errorf("only tasks of full kinds are left: waited %v", d)
		}
		time.AfterFunc(slotPatience/2, func() { r.queue.Kind(0).AddCapacity(1) })
		if d := waits(); d != slotPatience/2 {
			t.Errorf("a slot becomes free: waited %v", d)
		}
		r.moved = 5
		if d := waits(); d != 0 {
			t.Errorf("others are in sight: waited %v", d)
		}
		defer func() {
			if recover() == nil {
				t.Error("an empty queue was not asked about")
			}
		}()
		r.moved, r.left = 0, 0
		waits()
	})
}
