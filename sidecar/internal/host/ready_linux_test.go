package host

import (
	"testing"

	"golang.org/x/sys/unix"
)

// shrink gives a pipe the least size that the system has.
func shrink(t *testing.T, fd int) {
	t.Helper()
	if size, err := unix.FcntlInt(uintptr(fd), unix.F_SETPIPE_SZ, 1); err != nil || size > 64<<10 {
		t.Fatalf("a pipe of %d bytes: %v", size, err)
	}
}
