package app

import (
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/internal/observe"
)

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
