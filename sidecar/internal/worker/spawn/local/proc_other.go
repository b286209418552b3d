//go:build !linux

package local

import "syscall"

// awaitsBeforeReaping: there is no portable way to look at a process's end
// without reaping it; leftovers of its group are killed by the ladder only.
const awaitsBeforeReaping = false

// sysProcAttr gives a child a process group of its own, and where the sidecar has a
// controlling terminal a session, which has none. Only Linux has a parent-death signal;
// elsewhere the end of stdin tells a worker that the sidecar is gone (P38).
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: hasTerminal(), Setpgid: !hasTerminal()}
}

func lockThread() (unlock func()) { return func() {} }

func isFirstThread() bool { return false }

func awaitExit(int) {}

// openPipe makes a pipe whose ends no child inherits by itself.
func openPipe() (r, w int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	var ends [2]int
	if err = syscall.Pipe(ends[:]); err == nil {
		syscall.CloseOnExec(ends[0])
		syscall.CloseOnExec(ends[1])
	}
	return ends[0], ends[1], err
}
