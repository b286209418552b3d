package rpc

import (
	"io"
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
	idle atomic.Bool     // the pipe was empty and everything read from it is handled

	taken   atomic.Int64 // bytes read from the pipe
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
// handled. idle becomes false before bytes leave the pipe, never after.
func (w *stderrPipe) Read(p []byte) (n int, err error) {
	w.handled.Store(w.taken.Load())
	if w.conn == nil {
		return w.pipe.Read(p)
	}
	cerr := w.conn.Read(func(fd uintptr) bool {
		for {
			w.idle.Store(false)
			n, err = unix.Read(int(fd), p)
			switch err {
			case unix.EINTR:
				continue
			case unix.EAGAIN:
				w.idle.Store(true)
				return false // wait until it is readable
			}
			return true
		}
	})
	switch {
	case cerr != nil:
		return 0, cerr // closed, or its deadline has passed
	case err != nil:
		return 0, err
	case n <= 0:
		w.idle.Store(true)
		return 0, io.EOF
	}
	w.taken.Add(int64(n))
	return n, nil
}

// awaitHandled waits until the bytes that are in the pipe now have been handled, for
// limit at most. It does not wait for later bytes, because a child may write without
// end.
func (w *stderrPipe) awaitHandled(limit time.Duration) {
	if w.conn == nil {
		return
	}
	waiting := w.unread()
	target := w.taken.Load() + int64(waiting)
	var deadline time.Time
	for {
		if waiting == 0 && w.idle.Load() || w.handled.Load() >= target {
			return
		}
		now := time.Now()
		if deadline.IsZero() {
			deadline = now.Add(limit)
		}
		if now.After(deadline) {
			return
		}
		//nolint:forbidigo // the reader runs; there is no event to wait for
		time.Sleep(20 * time.Microsecond)
		waiting = w.unread()
	}
}

// unread returns the number of bytes in the pipe.
func (w *stderrPipe) unread() (n int) {
	_ = w.conn.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), fionread) })
	return n
}
