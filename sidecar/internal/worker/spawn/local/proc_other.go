//go:build !linux

package local

import "syscall"

// awaitsBeforeReaping is false: there is no portable way to notice the end of a process
// without reaping it. Only End kills what is left of its group.
const awaitsBeforeReaping = false

// sysProcAttr gives a child a process group of its own, or, if the sidecar has a
// controlling terminal, a session, which has no terminal. Only Linux has a parent-death
// signal; elsewhere a worker notices the end of the sidecar by the end of its stdin
// (P38).
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: hasTerminal(), Setpgid: !hasTerminal()}
}

func lockThread() (unlock func()) { return func() {} }

func isFirstThread() bool { return false }

func awaitExit(int) {}

// openPipe makes a pipe whose ends are not inherited.
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
