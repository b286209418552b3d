package reaper

import (
	"time"

	"golang.org/x/sys/unix"
)

// Abandon kills everything that this process has started, in rounds and for limit at
// most: the group of each child, and then the orphans of these. It reaps nothing and
// takes no lock, since it is for a process that ends because a part of it hangs.
func Abandon(limit time.Duration) {
	deadline := time.Now().Add(limit)
	for {
		left := false
		for _, pid := range children("self") {
			if hasEnded(pid) {
				continue
			}
			left = true
			if group(pid) == pid {
				pid = -pid
			}
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		if !left || time.Now().After(deadline) {
			return
		}
		timer := time.NewTimer(time.Millisecond)
		<-timer.C
	}
}
