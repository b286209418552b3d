package observe

import (
	"fmt"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
)

// State is where in its life a sidecar is; docs/lifecycle.md has the diagram.
type State string

// States of a sidecar.
const (
	Starting State = "starting" // no worker is up yet, or Redis has not answered yet
	Running  State = "running"
	Quiet    State = "quiet"  // told by a signal to claim nothing
	Paused   State = "paused" // told through Redis to claim nothing
	Stopping State = "stopping"
	Stopped  State = "stopped"
)

// Snapshot is a sidecar at a moment.
type Snapshot struct {
	State State
	// Ready says that a task in the queue would be run now.
	Ready     bool
	Paused    bool // through Redis
	RedisLost bool
	CrashLoop bool
	Workers   int // worker processes that are up
	Wanted    int // of these, for a sidecar to be ready
	Capacity  int // tasks that they can run at once
	InFlight  int // tasks in them
	Extra     int // extra slots in use, while other tasks only wait
	Waiting   int // tasks that are claimed and not started
	// Unreported is how many outcomes Redis has not heard of, UnreportedBytes how large
	// they are.
	Unreported      int
	UnreportedBytes int64
	Slots           []worker.Slot
}

// crashLoop says in words that a sidecar is in a crash loop.
const crashLoop = "the workers keep dying"

// Problems say why the sidecar would not run a task now.
func (s *Snapshot) Problems() (list []string) {
	add := func(is bool, problem string) {
		if is {
			list = append(list, problem)
		}
	}
	missing := s.Workers < s.Wanted
	add(missing && (s.State == Starting || s.State == Running), fmt.Sprintf("%d of %d workers are up", s.Workers, s.Wanted))
	add(s.State == Starting && !missing, "redis has not answered yet")
	add(s.State == Quiet, "told to claim nothing")
	add(s.Paused, "paused")
	add(s.State == Stopping || s.State == Stopped, "stopping")
	add(s.RedisLost, "redis is lost")
	add(s.CrashLoop, crashLoop)
	return list
}
