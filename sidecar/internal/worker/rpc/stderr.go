package rpc

import (
	"io"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// watched reads a pipe and knows whether everything in it has been handled.
// A worker writes its lines about a task to stderr before it answers on
// stdout, but these are two pipes: without waiting for the one, the answer on
// the other ends the task first, and its last lines would name no task, or the
// next one.
type watched struct {
	pipe local.ReadPipe
	conn syscall.RawConn // nil where the pipe has no descriptor
	idle atomic.Bool     // the pipe was found empty and what was read is handled

	taken   atomic.Int64 // bytes that have left the pipe
	handled atomic.Int64 // of these, before the last Read
}

func watch(pipe local.ReadPipe) (*watched, error) {
	f, ok := pipe.(syscall.Conn)
	if !ok {
		return &watched{pipe: pipe}, nil
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &watched{pipe: pipe, conn: conn}, nil
}

// Read reads from the pipe. That it is called says that the last bytes it gave
// are handled. idle falls before bytes leave the pipe, never after.
func (w *watched) Read(p []byte) (n int, err error) {
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

// settle waits until what is in the pipe now is handled, for limit at most.
// What comes later is not waited for: a child may write for ever.
func (w *watched) settle(limit time.Duration) {
	if w.conn == nil {
		return
	}
	waiting := w.waiting()
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
		waiting = w.waiting()
	}
}

// waiting is how many bytes are in the pipe.
func (w *watched) waiting() (n int) {
	_ = w.conn.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), fionread) })
	return n
}
