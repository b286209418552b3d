package host

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/graflow/graflow-sidecar/sidecar/config"
)

// NoFD says that a descriptor was not given.
const NoFD = -1

// inherited takes a descriptor that the parent process opened for the sidecar.
// Workers do not inherit it.
func inherited(flag string, fd int) (*os.File, error) {
	var st syscall.Stat_t
	if fd < 0 || syscall.Fstat(fd, &st) != nil {
		return nil, &config.UsageError{Err: fmt.Errorf("--%s is %d, and must be an open file descriptor", flag, fd)}
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), flag), nil
}

// Parent watches the read end of a pipe whose write end the parent process holds
// open. The end of the pipe means that the parent has ended, also by SIGKILL, after
// which no clean-up code runs, and counts as the first SIGTERM. A pipe works on every
// Unix. Linux's parent-death signal is not used here: it fires when the thread that
// started the sidecar ends, and as SIGKILL it would leave no time to drain. A process
// that inherits the write end keeps the sidecar alive, so the Python package opens it
// close-on-exec.
type Parent struct {
	file *os.File
	Gone chan struct{} // closed at its end; nil if no parent is watched
}

func WatchParent(fd int) (*Parent, error) {
	if fd == NoFD {
		return &Parent{}, nil
	}
	f, err := inherited("parent-fd", fd)
	if err != nil {
		return nil, err
	}
	p := &Parent{file: f, Gone: make(chan struct{})}
	go func() {
		if _, err := io.Copy(io.Discard, f); !errors.Is(err, os.ErrClosed) {
			close(p.Gone)
		}
	}()
	return p, nil
}

// Close ends the watch; a goroutine that waits in a read that cannot be
// interrupted (a descriptor that is no pipe) ends with the process.
func (p *Parent) Close() {
	if p.file != nil {
		_ = p.file.Close()
	}
}
