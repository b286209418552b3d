package host

import "golang.org/x/sys/unix"

// UnblockStderr gives this process a non-blocking file description of its own for its
// standard error, where that is a pipe or a terminal. The Go runtime writes the stack of
// a crash there itself, with the world stopped: where the reader has stalled the process
// would hang in that write for ever, with its workers, and neither signals nor its own
// watchdog could end it. The log goes on after EAGAIN, see logging.Queue. A description
// of its own, since the flag would otherwise hold for all processes that share it.
//
// Other kinds of files stay as they are: a file on a disk does not stall for its reader,
// and a socket (systemd's journal) cannot be opened again.
func UnblockStderr() {
	const fd = 2
	var stat unix.Stat_t
	flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
	if err != nil || flags&unix.O_NONBLOCK != 0 || unix.Fstat(fd, &stat) != nil {
		return
	}
	if kind := stat.Mode & unix.S_IFMT; kind != unix.S_IFIFO && (kind != unix.S_IFCHR || !isTerminal(fd)) {
		return
	}
	own, err := unix.Open("/proc/self/fd/2", unix.O_WRONLY|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		return // another user's, or its reader is gone
	}
	_ = unix.Dup3(own, fd, 0) // where it fails fd 2 is what it was
	_ = unix.Close(own)
}

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}
