package local

import (
	"errors"
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// awaitsBeforeReaping says that awaitExit returns while the process is still a zombie.
const awaitsBeforeReaping = true

// sysProcAttr gives a child a process group of its own, and makes the kernel kill it
// when the sidecar dies: Ctrl-C reaches the sidecar and not the child, and a kill
// reaches the processes of the child. The child has no controlling terminal: a git that
// needed a password once opened /dev/tty, which was the sidecar's, and was stopped by
// SIGTTIN for ever. A child gets a session of its own only if the sidecar has a
// terminal, because each session is a scheduling unit (sched_autogroup), which costs
// mode exec and small tasks a tenth of their rate.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: hasTerminal(), Setpgid: !hasTerminal(), Pdeathsig: syscall.SIGKILL}
}

func lockThread() (unlock func()) {
	runtime.LockOSThread()
	return runtime.UnlockOSThread
}

func isFirstThread() bool { return unix.Gettid() == os.Getpid() }

// awaitExit waits until the process has ended and leaves it unreaped (WNOWAIT), so that
// its process group keeps its number. If the kernel can report the end of a process
// like input from a file, it blocks neither a thread nor a processor of the Go
// scheduler.
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
	hasEnded(pid, 0) // an old kernel, or a system call filter without this call
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

// openPipe makes a pipe whose ends are not inherited.
func openPipe() (r, w int, err error) {
	var ends [2]int
	err = unix.Pipe2(ends[:], unix.O_CLOEXEC)
	return ends[0], ends[1], err
}
