package local

import (
	"errors"
	"sync"

	"golang.org/x/sys/unix"
)

// hasTerminal reports whether this process has a controlling terminal. It is determined
// once, because the process opens no terminal that could become one later. If unknown,
// it is true.
var hasTerminal = sync.OnceValue(func() bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	return !errors.Is(err, unix.ENXIO)
})
