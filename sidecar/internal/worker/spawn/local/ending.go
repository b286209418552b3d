package local

import (
	"syscall"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Ending is how a process ended: with an exit status or by a signal.
type Ending struct {
	Code   int            // the exit status; -1 if a signal ended it
	Signal syscall.Signal // 0 if the process exited
}

// IsStop reports whether the end is that of a stop of the whole process tree: by
// SIGTERM, SIGINT or SIGHUP, or with the status that shells and some runtimes (the JVM)
// use for these, 128 plus the number of the signal.
func (e Ending) IsStop() bool {
	sig := e.signal()
	return sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGHUP
}

// IsHangup reports whether the end is that of a SIGHUP.
func (e Ending) IsHangup() bool { return e.signal() == syscall.SIGHUP }

// signal returns the signal that ended the process, or that its status stands for.
func (e Ending) signal() syscall.Signal {
	if e.Signal == 0 && e.Code > 128 {
		return syscall.Signal(e.Code - 128)
	}
	return e.Signal
}

// Exit returns whether a stop that reaches more than the sidecar may have ended the
// process.
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

// EndingOf returns how p ended. It may be called after Exited. For a Process without an
// Ending it returns the Code -1 and no signal.
func EndingOf(p Process) Ending {
	if told, ok := p.(interface{ Ending() Ending }); ok {
		return told.Ending()
	}
	return Ending{Code: -1}
}

// Ending returns how the process ended. It may be called after Exited.
func (p *proc) Ending() Ending {
	if p.status.Signaled() {
		return Ending{Code: -1, Signal: p.status.Signal()}
	}
	return Ending{Code: p.status.ExitStatus()}
}
