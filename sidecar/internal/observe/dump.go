package observe

import (
	"fmt"
	"io"
	"runtime"
	"time"
)

const (
	// dumpPatience is how long a dump waits for the locks of the state.
	dumpPatience = 2 * time.Second
	// maxDump bounds the goroutines' part of a dump.
	maxDump = 16 << 20
)

// Dump writes what a person needs to see when a sidecar seems stuck: its state,
// each worker with its tasks, and every goroutine. Where the state cannot be read
// within dumpPatience, since a lock is never released, the goroutines show why.
func Dump(w io.Writer, snapshot func() Snapshot) error {
	state := make(chan []byte, 1)
	go func() {
		s := snapshot()
		state <- s.describe(time.Now())
	}()
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

// describe is the part of a dump about the state and the workers.
func (s *Snapshot) describe(now time.Time) []byte {
	out := fmt.Appendf(nil, "sidecar: state=%s ready=%t redis_lost=%t crash_loop=%t workers=%d capacity=%d in_flight=%d lent=%d waiting=%d unreported=%d\n",
		s.State, s.Ready, s.RedisLost, s.CrashLoop, s.Workers, s.Capacity, s.InFlight, s.Extra, s.Waiting, s.Unreported)
	for _, slot := range s.Slots {
		out = fmt.Appendf(out, "slot %d: pid=%d concurrency=%d leaving=%t lent=%t tasks=%d", slot.Slot, slot.Pid, slot.Concurrency, slot.Leaving, slot.Extra, len(slot.Tasks))
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
