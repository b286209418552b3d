package subproc

import (
	"errors"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// awaitsBeforeReaping: awaitExit returns while the process is still a zombie.
const awaitsBeforeReaping = true

// sysProcAttr gives a child a group of its own, so that Ctrl-C reaches us and
// not it and a kill reaches its grandchildren, and has the kernel kill it
// when we die without a word.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func lockThread() (unlock func()) {
	runtime.LockOSThread()
	return runtime.UnlockOSThread
}

// awaitExit waits until the process has ended and leaves it unreaped
// (WNOWAIT): its process group still has its number.
func awaitExit(pid int) {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			return
		}
	}
}
