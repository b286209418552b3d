package local

import (
	"errors"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// awaitsBeforeReaping: awaitExit returns while the process is still a zombie.
const awaitsBeforeReaping = true

// sysProcAttr gives a child a process group of its own, and has the kernel kill it
// when the sidecar dies: Ctrl-C reaches the sidecar and not the child, and a kill
// reaches the child's own children. The child has no controlling terminal: a git that
// wanted a password opened /dev/tty, which was the sidecar's, and was stopped by SIGTTIN
// for ever. A session of its own takes it away, where there is one to take: each
// session is a unit of the scheduler's (sched_autogroup), which cost mode exec and
// small tasks a tenth of their rate.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: hasTerminal(), Setpgid: !hasTerminal(), Pdeathsig: syscall.SIGKILL}
}

func lockThread() (unlock func()) {
	runtime.LockOSThread()
	return runtime.UnlockOSThread
}

func isFirstThread() bool { return unix.Gettid() == os.Getpid() }

// awaitExit waits until the process has ended and leaves it unreaped
// (WNOWAIT): its process group still has its number. It keeps no thread waiting,
// nor a processor of the scheduler's until that notices, where the kernel can
// tell of a process's end like of a file's.
func awaitExit(pid int) {
	if fd, err := unix.PidfdOpen(pid, 0); err == nil {
		_ = unix.SetNonblock(fd, true)
		f := os.NewFile(uintptr(fd), "pidfd")
		defer f.Close()
		conn, err := f.SyscallConn()
		if err == nil && conn.Read(func(uintptr) bool { return hasEnded(pid, unix.WNOHANG) }) == nil {
			return
		}
	}
	hasEnded(pid, 0) // an old kernel, or a filter of system calls that knows none newer
}

// hasEnded reports whether a child of the sidecar is dead or already reaped.
func hasEnded(pid, options int) bool {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WEXITED|unix.WNOWAIT|options, nil)
		if !errors.Is(err, unix.EINTR) {
			return err != nil || info.Signo != 0
		}
	}
}

// openPipe makes a pipe whose ends no child inherits by itself.
func openPipe() (r, w int, err error) {
	var ends [2]int
	err = unix.Pipe2(ends[:], unix.O_CLOEXEC)
	return ends[0], ends[1], err
}
