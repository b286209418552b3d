package app

import (
	"fmt"
	"io"
	"runtime"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
)

// State is where in its life a sidecar is; docs/lifecycle.md has the diagram.
type State string

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
	// first word of a stop, and is not there in a crash loop.
	Ready     bool
	RedisLost bool
	// CrashLoop says that the workers keep dying; see config.Worker.CrashLoopExit.
	CrashLoop  bool
	Workers    int // worker processes that are up
	Capacity   int // tasks that they can run at once
	InFlight   int // tasks in them
	Lent       int // slots that are lent, since their tasks only wait for others
	Waiting    int // tasks that are claimed and not started
	Unreported int // outcomes that Redis has not heard of
	Slots      []Slot
}

// Slot is one serving worker process.
type Slot = worker.Slot

// Status returns a snapshot.
func (a *App) Status() Status {
	counts := a.queue.Counts()
	s := Status{
		State: a.state(), RedisLost: a.mon.Lost(), Workers: a.pool.Up(),
		Capacity: counts.Capacity, InFlight: counts.Running, Waiting: counts.Ready,
		Unreported: a.box.Pending(), Slots: a.pool.Slots(), Lent: counts.Lent, CrashLoop: a.pool.CrashLoop(),
	}
	s.Ready = s.State == Running && !s.RedisLost && !s.CrashLoop && a.staffed()
	return s
}

// UnreportedBytes is how many bytes of outcomes Redis has not heard of.
func (a *App) UnreportedBytes() int64 { return a.box.Bytes() }

func (a *App) state() State {
	isClosed := func(ch <-chan struct{}) bool {
		select {
		case <-ch:
			return true
		default:
			return false
		}
	}
	switch {
	case isClosed(a.ended):
		return Stopped
	case isClosed(a.clock.began):
		return Stopping
	case a.holds.paused():
		return Paused
	case a.queue.IsQuiet():
		return Quiet
	case isClosed(a.ready):
		return Running
	default:
		return Starting
	}
}

// Quiet makes the sidecar claim nothing more until Resume; what runs goes on,
// and everything else stays up. It returns at once; a record that Redis hands
// over in the same moment is given back. Supervised workers claim for themselves
// and go on.
func (a *App) Quiet() {
	if a.cfg.Mode == config.ModeSupervise {
		a.log.Warn("supervised workers cannot be paused")
		return
	}
	a.hold(func(h *holds) { h.signal = true })
}

// Resume ends Quiet. A sidecar that is paused through Redis still claims nothing.
func (a *App) Resume() { a.hold(func(h *holds) { h.signal = false }) }

// Renew replaces the worker processes by fresh ones, one after another and
// with no task lost. It returns at once. A worker that does not start again
// ends the round: the old ones stay.
func (a *App) Renew() {
	if a.fork.Server != nil {
		// First, so that no fresh worker is a fork of the old one.
		a.fork.Renew()
	}
	a.pool.Renew()
}

// Hangup is Renew for a SIGHUP. One to the whole process tree has ended workers that do
// not handle it: their deaths within a second of it cost their records no attempt.
func (a *App) Hangup() {
	a.hangups.Note()
	a.Renew()
}

// Dump writes what a person needs to see when a sidecar seems stuck: its state,
// each worker with its tasks, and every goroutine. Where the state cannot be read
// within dumpPatience, since a lock is never released, the goroutines show why.
func (a *App) Dump(w io.Writer) error {
	state := make(chan []byte, 1)
	go func() { state <- a.describe() }()
	timer := time.NewTimer(dumpPatience)
	defer timer.Stop()
	var out []byte
	select {
	case out = <-state:
	case <-timer.C:
		out = fmt.Appendf(nil, "sidecar: the state cannot be read within %v: a lock is held\n", dumpPatience)
	}
	out = append(append(out, '\n'), stacks()...)
	_, err := w.Write(append(out, '\n'))
	return err
}

// dumpPatience is how long a dump waits for the locks of the state.
const dumpPatience = 2 * time.Second

// describe is the part of a dump about the state and the workers.
func (a *App) describe() []byte {
	s := a.Status()
	now := time.Now()
	out := fmt.Appendf(nil, "sidecar: state=%s ready=%t redis_lost=%t crash_loop=%t workers=%d capacity=%d in_flight=%d lent=%d waiting=%d unreported=%d\n",
		s.State, s.Ready, s.RedisLost, s.CrashLoop, s.Workers, s.Capacity, s.InFlight, s.Lent, s.Waiting, s.Unreported)
	for _, slot := range s.Slots {
		out = fmt.Appendf(out, "slot %d: pid=%d concurrency=%d leaving=%t lent=%t tasks=%d", slot.Slot, slot.Pid, slot.Concurrency, slot.Leaving, slot.Lent, len(slot.Tasks))
		if slot.Kind != "" {
			out = fmt.Appendf(out, " kind=%q", slot.Kind)
		}
		out = append(out, '\n')
		for _, t := range slot.Tasks {
			out = fmt.Appendf(out, "  task_id=%q delivery=%s for=%s waiting=%t", t.TaskID, t.Delivery, now.Sub(t.Started).Round(time.Millisecond), t.Waiting)
			if !t.Progress.At.IsZero() {
				out = fmt.Appendf(out, " progress=%.2f message=%q said=%s", t.Progress.Fraction, t.Progress.Message, now.Sub(t.Progress.At).Round(time.Millisecond))
			}
			out = append(out, '\n')
		}
	}
	return out
}

// maxDump bounds the goroutines' part of a dump.
const maxDump = 16 << 20

func stacks() []byte {
	buf := make([]byte, 64<<10)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) || len(buf) >= maxDump {
			return buf[:n]
		}
		buf = make([]byte, 2*len(buf))
	}
}

// ConnectURL is where Redis is, credentials and all, for a client of the same
// Redis; not for the log. Of several addresses it knows none.
func (a *App) ConnectURL() string {
	password, err := a.cfg.Redis.ReadPassword()
	if err != nil {
		return "" // it was readable when we connected
	}
	p, err := worker.PlaceOf(a.cfg.Redis, password)
	if err != nil {
		return ""
	}
	return p.URL.String()
}
