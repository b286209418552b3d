package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/graflow/graflow-sidecar/sidecar/config"
)

// noFD says that a descriptor was not given.
const noFD = -1

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

// parent watches a pipe whose other end only our parent has: the end of that
// pipe says that the parent is gone, however it went. (The signal that Linux
// sends on a parent's death comes when the thread that started us ends, and one
// that is killed runs no code that could tell us.)
type parent struct {
	file *os.File
	gone chan struct{} // closed at its end; nil if nobody is watched
}

func watchParent(fd int) (*parent, error) {
	if fd == noFD {
		return &parent{}, nil
	}
	f, err := inherited("parent-fd", fd)
	if err != nil {
		return nil, err
	}
	p := &parent{file: f, gone: make(chan struct{})}
	go func() {
		if _, err := io.Copy(io.Discard, f); !errors.Is(err, os.ErrClosed) {
			close(p.gone)
		}
	}()
	return p, nil
}

// close ends the watch; a goroutine that waits in a read that cannot be
// interrupted (a descriptor that is no pipe) ends with the process.
func (p *parent) close() {
	if p.file != nil {
		_ = p.file.Close()
	}
}
