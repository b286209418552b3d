package logging

import (
	"time"

	"golang.org/x/sys/unix"
)

// awaitRoom waits until a descriptor takes a write, or its reader is gone, for at most
// d, and reports whether it did.
func awaitRoom(fd int, d time.Duration) bool {
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, int(d.Milliseconds()))
	return err == nil && n > 0
}
