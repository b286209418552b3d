package app

import (
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/observe"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
)

// State is where in its life a sidecar is; docs/lifecycle.md has the diagram.
type State string

// States of a sidecar, by the names that the registry in Redis and /status have for them.
const (
	Starting State = "starting" // no worker is up yet, or Redis has not answered yet
	Running  State = "running"
	Quiet    State = "quiet"  // told by a signal to claim nothing
	Paused   State = "paused" // told through Redis to claim nothing
	Stopping State = "stopping"
	Stopped  State = "stopped"
)

// Status is a snapshot of a sidecar.
type Status struct {
	State State
	// Ready says that a task in the queue would be run now. It ends with the
	// beginning of a stop, and is not there in a crash loop.
	Ready     bool
	RedisLost bool
	// CrashLoop says that the workers keep dying; see config.Worker.CrashLoopExit.
	CrashLoop  bool
	Workers    int // worker processes that are up
	Capacity   int // tasks that they can run at once
	InFlight   int // tasks in them
	Extra      int // extra slots in use, while other tasks only wait
	Waiting    int // tasks that are claimed and not started
	Unreported int // outcomes that Redis has not heard of
	Slots      []Slot
}

// Slot is one serving worker process. That of a task that must run alone has the slot of
// the process that took the task.
type Slot struct {
	Slot, Pid   int
	Kind        string // pattern of the kind of worker, where there are several
	Concurrency int    // tasks at once
	Leaving     bool   // it takes no more tasks
	Extra       bool   // it serves extra slots
	Tasks       []Task // the longest running first
}

// Task is one running task.
type Task struct {
	TaskID, SessionID, GroupID, Delivery string

	Attempt  int
	Started  time.Time
	Waiting  bool // it only waits for other tasks
	Progress Progress
}

// Progress is what a worker said last about a task.
type Progress struct {
	At       time.Time // zero if it said nothing yet
	Fraction float64   // from 0 to 1; 0 too if it did not say
	Message  string
}

// Status returns a snapshot.
func (a *App) Status() Status {
	s := a.snapshot()
	return Status{
		State: State(s.State), Ready: s.Ready, RedisLost: s.RedisLost, CrashLoop: s.CrashLoop, Workers: s.Workers,
		Capacity: s.Capacity, InFlight: s.InFlight, Extra: s.Extra, Waiting: s.Waiting, Unreported: s.Unreported,
		Slots: slotsOf(s.Slots),
	}
}

func slotsOf(slots []worker.Slot) []Slot {
	list := make([]Slot, len(slots))
	for i, s := range slots {
		list[i] = Slot{Slot: s.Slot, Pid: s.Pid, Kind: s.Kind, Concurrency: s.Concurrency, Leaving: s.Leaving, Extra: s.Extra}
		for _, t := range s.Tasks {
			list[i].Tasks = append(list[i].Tasks, Task{
				TaskID: t.TaskID, SessionID: t.SessionID, GroupID: t.GroupID, Delivery: t.Delivery,
				Attempt: t.Attempt, Started: t.Started, Waiting: t.Waiting, Progress: Progress(t.Progress),
			})
		}
	}
	return list
}

// snapshot is the sidecar at this moment.
func (a *App) snapshot() observe.Snapshot {
	counts := a.queue.Counts()
	s := observe.Snapshot{
		State: a.state(), Paused: a.control.Paused(), RedisLost: a.mon.Lost(), CrashLoop: a.workers.CrashLoop(),
		Workers: a.workers.Up(), Wanted: a.workers.Wanted(), Capacity: counts.Capacity, InFlight: counts.Running, Extra: counts.Extra,
		Waiting: counts.Ready, Unreported: a.buffer.Pending(), UnreportedBytes: a.buffer.Bytes(), Slots: a.workers.Slots(),
	}
	s.Ready = s.State == observe.Running && !s.RedisLost && !s.CrashLoop && a.workers.Complete()
	return s
}

func (a *App) state() observe.State {
	switch {
	case isClosed(a.ended):
		return observe.Stopped
	case isClosed(a.clock.began):
		return observe.Stopping
	case a.control.Paused():
		return observe.Paused
	case a.queue.IsQuiet():
		return observe.Quiet
	case isClosed(a.ready):
		return observe.Running
	default:
		return observe.Starting
	}
}

func isClosed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}
