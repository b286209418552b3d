package local

import (
	"os"

	"golang.org/x/sys/unix"
)

// unreadBytes returns how many of the bytes written to a pipe have not been read, 0 if
// that is unknown: the pipe may be closed.
func unreadBytes(pipe *os.File) int64 {
	conn, err := pipe.SyscallConn()
	if err != nil {
		return 0
	}
	n := 0
	_ = conn.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	if err != nil {
		return 0
	}
	return int64(n)
}
