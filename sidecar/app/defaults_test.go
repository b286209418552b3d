package app

import (
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/graflow/graflow-sidecar/sidecar/internal/observe"
	"github.com/graflow/graflow-sidecar/sidecar/internal/testhook"
)

// TestDefaultsAndACommandAreEnough: the sidecar starts with them, takes a record and ends.
func TestDefaultsAndACommandAreEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		redis, workers := newFakeRedis("", "a"), &fakeWorkers{}
		cfg := DefaultConfig()
		if cfg.Log == nil {
			t.Error("the defaults have no log")
		}
		cfg.Worker.Command = []string{"fake"}
		cfg.Log = slog.New(slog.DiscardHandler) // the only other change, for the output of the tests
		a, err := start(t.Context(), cfg, hooks{Set: testhook.Set{Start: workers.start}, backend: redis.backend})
		if err != nil {
			t.Fatal(err)
		}
		<-a.Ready()
		synctest.Wait()
		if err := a.Close(); err != nil || a.Status().State != Stopped {
			t.Errorf("closed with %v, and is %s", err, a.Status().State)
		}
		if queue, inflight, ended := redis.state(); len(queue)+len(inflight) != 0 || len(ended) != 1 {
			t.Errorf("queue %v, in flight %v, ended %v", queue, inflight, ended)
		}
	})
}

func TestStatesHaveOneName(t *testing.T) {
	for state, internal := range map[State]observe.State{
		Starting: observe.Starting, Running: observe.Running, Quiet: observe.Quiet,
		Paused: observe.Paused, Stopping: observe.Stopping, Stopped: observe.Stopped,
	} {
		if string(state) != string(internal) {
			t.Errorf("%q is called %q by package observe", state, internal)
		}
	}
}
