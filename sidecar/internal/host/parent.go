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

// inherited takes a descriptor that whoever started us opened for us. It is
// none of the workers' business.
func inherited(flag string, fd int) (*os.File, error) {
	var st syscall.Stat_t
	if fd < 0 || syscall.Fstat(fd, &st) != nil {
		return nil, &config.UsageError{Err: fmt.Errorf("--%s is %d, and must be an open file descriptor", flag, fd)}
	}
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), flag), nil
}

// Parent watches a pipe whose other end only our parent has: the end of that
// pipe says that the parent is gone, however it went. (The signal that Linux
// sends on a parent's death comes when the thread that started us ends, and one
// that is killed runs no code that could tell us.)
type Parent struct {
	file *os.File
	Gone chan struct{} // closed at its end; nil if nobody is watched
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
