package local

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

// pipes are the pipes of a child's standard streams, in their order: the child's ends,
// and the sidecar's. Only the sidecar's ends are prepared for the poller. theirs are
// -1, and ours nil, where there is none.
type pipes struct {
	theirs [3]int
	stdin  *os.File
	out    [2]*outPipe
}

// open makes the pipes.
func (ps *pipes) open() error {
	ps.theirs = [3]int{-1, -1, -1}
	for i := range ps.theirs {
		r, w, err := openPipe()
		if err != nil {
			return fmt.Errorf("no pipe for the worker: %w", err)
		}
		ours := r
		if ps.theirs[i] = w; i == 0 {
			ps.theirs[i], ours = r, w
		}
		_ = syscall.SetNonblock(ours, true)
		if i == 0 {
			ps.stdin = os.NewFile(uintptr(ours), "|stdin")
		} else {
			ps.out[i-1] = &outPipe{fd: ours}
		}
	}
	return nil
}

func (ps *pipes) closeTheirs() {
	for i, fd := range ps.theirs {
		if fd >= 0 {
			_ = syscall.Close(fd)
			ps.theirs[i] = -1
		}
	}
}

func (ps *pipes) close() {
	ps.closeTheirs()
	if ps.stdin != nil {
		_ = ps.stdin.Close()
	}
	for _, o := range ps.out {
		if o != nil {
			_ = o.Close()
		}
	}
}

// outPipe is the sidecar's end of a pipe that a child writes to. It joins Go's poller
// at the first read that has to wait: a process that has ended by then has left all its
// output in the pipe, see ReadNow. Its methods may be called concurrently.
type outPipe struct {
	mu   sync.Mutex
	fd   int      // -1 once it is closed
	file *os.File // of fd, after the first read that waits
}

func (o *outPipe) waitable() (*os.File, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fd < 0 {
		return nil, os.ErrClosed
	}
	if o.file == nil {
		o.file = os.NewFile(uintptr(o.fd), "|output")
	}
	return o.file, nil
}

func (o *outPipe) Read(b []byte) (int, error) {
	f, err := o.waitable()
	if err != nil {
		return 0, err
	}
	return f.Read(b)
}

func (o *outPipe) SetReadDeadline(t time.Time) error {
	f, err := o.waitable()
	if err != nil {
		return err
	}
	return f.SetReadDeadline(t)
}

// SyscallConn implements [syscall.Conn].
func (o *outPipe) SyscallConn() (syscall.RawConn, error) {
	f, err := o.waitable()
	if err != nil {
		return nil, err
	}
	return f.SyscallConn()
}

// ReadNow reads what is in the pipe. It fails with [syscall.EAGAIN] if the pipe is
// empty, and with [io.EOF] at the end.
func (o *outPipe) ReadNow(b []byte) (n int, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fd < 0 {
		return 0, os.ErrClosed
	}
	for {
		n, err = syscall.Read(o.fd, b)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, err
		case n == 0 && len(b) > 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

func (o *outPipe) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.fd < 0 {
		return os.ErrClosed
	}
	fd := o.fd
	o.fd = -1
	if o.file != nil {
		return o.file.Close()
	}
	return syscall.Close(fd)
}
