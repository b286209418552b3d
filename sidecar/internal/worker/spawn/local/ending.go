package local

import (
	"syscall"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Ending is how a process ended: with a status of its own, or by a signal.
type Ending struct {
	Code   int            // its exit status; -1 where a signal ended it
	Signal syscall.Signal // 0 where it exited
}

// IsStop reports whether this is the end that a stop of the whole process tree brings:
// by SIGTERM, SIGINT or SIGHUP, or with the status that shells and some runtimes (the
// JVM) make of these, 128 and the number of the signal.
func (e Ending) IsStop() bool {
	sig := e.signal()
	return sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGHUP
}

// IsHangup reports whether this is the end that SIGHUP brings.
func (e Ending) IsHangup() bool { return e.signal() == syscall.SIGHUP }

// signal is the one that ended the process, or that its status tells of.
func (e Ending) signal() syscall.Signal {
	if e.Signal == 0 && e.Code > 128 {
		return syscall.Signal(e.Code - 128)
	}
	return e.Signal
}

// Exit says whether a stop that reaches more than the sidecar may have ended the process.
func (e Ending) Exit() task.Exit {
	switch {
	case e.IsHangup():
		return task.ExitHangup
	case e.IsStop():
		return task.ExitSignal
	case e.Code < 0:
		return task.ExitOther
	default:
		return task.ExitStatus
	}
}

// EndingOf returns how p ended. Call it after Exited. The Ending of a Process that
// does not know it has Code -1 and no signal.
func EndingOf(p Process) Ending {
	if told, ok := p.(interface{ Ending() Ending }); ok {
		return told.Ending()
	}
	return Ending{Code: -1}
}

// Ending returns how the process ended. Call it after Exited.
func (p *proc) Ending() Ending {
	if p.status.Signaled() {
		return Ending{Code: -1, Signal: p.status.Signal()}
	}
	return Ending{Code: p.status.ExitStatus()}
}
