package rpc

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// stderrPipe reads a child's stderr and records whether everything in the pipe has been
// handled. A worker writes its lines about a task to stderr before it answers on
// stdout. Without a wait for stderr the answer would end the task first, and the last
// lines would name no task, or the next one.
type stderrPipe struct {
	pipe local.ReadPipe
	conn syscall.RawConn // nil if the pipe has no descriptor

	mu    sync.Mutex // held while bytes leave the pipe
	taken int64      // bytes read from the pipe

	handled atomic.Int64 // bytes read before the last call of Read
}

func newStderrPipe(pipe local.ReadPipe) (*stderrPipe, error) {
	f, ok := pipe.(syscall.Conn)
	if !ok {
		return &stderrPipe{pipe: pipe}, nil
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &stderrPipe{pipe: pipe, conn: conn}, nil
}

// Read reads from the pipe. A call says that the bytes of the last call have been
// handled.
func (w *stderrPipe) Read(p []byte) (n int, err error) {
	w.handled.Store(w.taken) // only Read changes taken
	if w.conn == nil {
		return w.pipe.Read(p)
	}
	cerr := w.conn.Read(func(fd uintptr) bool {
		n, err = w.take(int(fd), p)
		return !errors.Is(err, unix.EAGAIN) // false: wait until it is readable
	})
	switch {
	case cerr != nil:
		return 0, cerr // closed, or its deadline has passed
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// take reads what is in the pipe. No byte is out of the pipe and not counted while mu
// is free.
func (w *stderrPipe) take(fd int, p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		n, err := unix.Read(fd, p)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		w.taken += int64(max(n, 0))
		return n, err
	}
}

// awaitHandled waits until the bytes that are in the pipe now have been handled, for
// limit at most. It does not wait for later bytes, because a child may write without
// end.
func (w *stderrPipe) awaitHandled(limit time.Duration) {
	if w.conn == nil {
		return
	}
	target := w.written()
	var deadline time.Time
	for w.handled.Load() < target {
		now := time.Now()
		if deadline.IsZero() {
			deadline = now.Add(limit)
		}
		if now.After(deadline) {
			return
		}
		//nolint:forbidigo // the reader runs; there is no event to wait for
		time.Sleep(20 * time.Microsecond)
	}
}

// written returns the number of bytes that the child has written so far.
func (w *stderrPipe) written() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	var waiting int
	_ = w.conn.Control(func(fd uintptr) { waiting, _ = unix.IoctlGetInt(int(fd), fionread) })
	return w.taken + int64(waiting)
}
