package execute

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/subproc"
)

// streams are our ends of a process's pipes.
type streams struct {
	p       subproc.Process
	tail    subproc.Tail
	out     []byte        // what it printed; only after close
	tooLong chan struct{} // closed when that is more than a result may be

	stdin, stdout, stderr chan struct{} // closed when that pipe is done with
	once                  sync.Once
}

// attach passes the record on, where it was too long to be there from the start,
// and collects what the process writes.
func (s *Stage) attach(j *job, p subproc.Process, record []byte) *streams {
	st := &streams{
		p: p, tooLong: make(chan struct{}),
		stdin: make(chan struct{}), stdout: make(chan struct{}), stderr: make(chan struct{}),
	}
	go func() {
		defer close(st.stdout)
		s.safe(func() { st.collect(&pipeEnd{pipe: p.Stdout()}, s.cfg.MaxOutput) })
	}()
	go func() {
		defer close(st.stderr)
		s.safe(func() { s.logStderr(j, &pipeEnd{pipe: p.Stderr()}, &st.tail) })
	}()
	if record == nil {
		close(st.stdin)
		return st
	}
	go func() {
		defer close(st.stdin)
		feed(p, record)
	}()
	return st
}

// feed writes the record as a line and closes the pipe: without the line end a
// shell's read would call it a failure. That the process reads none of it is its
// own affair; the write ends then when close closes the pipe.
func feed(p subproc.Process, record []byte) {
	if _, err := p.Stdin().Write(record); err == nil {
		_, _ = p.Stdin().Write([]byte{'\n'})
	}
	_ = p.Stdin().Close()
}

// logStderr logs the lines of a process. Most have nothing to say: a line reader
// and its buffer are made for those that have.
func (s *Stage) logStderr(j *job, pipe *pipeEnd, tail *subproc.Tail) {
	first := make([]byte, 512)
	n, _ := pipe.Read(first)
	if n > 0 {
		subproc.LogLines(io.MultiReader(bytes.NewReader(first[:n]), pipe), s.cfg.Log, "worker stderr", tail, j.attrs)
	}
}

// collect reads what the process prints, and goes on reading what is too much:
// nobody is to hang in a write.
func (st *streams) collect(r io.Reader, most int) {
	buf := make([]byte, 0, 512)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if len(buf) > most {
			if !st.overlong() {
				close(st.tooLong)
			}
			buf = buf[:0]
		}
		if err != nil {
			st.out = buf
			return
		}
		if len(buf) == cap(buf) {
			buf = append(buf, 0)[:len(buf)]
		}
	}
}

func (st *streams) overlong() bool {
	select {
	case <-st.tooLong:
		return true
	default:
		return false
	}
}

// outputGrace is how long the end of a dead process's output is waited for: it
// fails to come only where a grandchild outside the process group holds the
// pipe, and that one's output is not the task's any more.
const outputGrace = 100 * time.Millisecond

// close ends the process if it is still there, reads to the end what it wrote,
// and closes the pipes.
func (st *streams) close() {
	st.once.Do(func() {
		select {
		case <-st.p.Exited():
		default:
			kill(st.p)
		}
		_ = st.p.Stdin().Close()
		<-st.stdin
		if !subproc.Within(st.stdout, outputGrace) || !subproc.Within(st.stderr, outputGrace) {
			_ = st.p.Stdout().SetReadDeadline(time.Now())
			_ = st.p.Stderr().SetReadDeadline(time.Now())
		}
		<-st.stdout
		<-st.stderr
		_ = st.p.Stdout().Close()
		_ = st.p.Stderr().Close()
	})
}

// pipeEnd reads a pipe to its end or, once its deadline has passed, what is in
// it at that time: all that the process itself wrote is there by then.
type pipeEnd struct {
	pipe subproc.ReadPipe
	late bool
	left int // bytes that may still be read then
}

// pipeHolds is the most that a pipe holds, unless somebody privileged has made
// it larger. A grandchild that writes without pause is not read for ever.
const pipeHolds = 1 << 20

func (e *pipeEnd) Read(b []byte) (int, error) {
	if !e.late {
		n, err := e.pipe.Read(b)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		e.late, e.left = true, pipeHolds
		_ = e.pipe.SetReadDeadline(time.Time{}) // or the next read would not even look
	}
	return e.rest(b)
}

// rest reads without waiting.
func (e *pipeEnd) rest(b []byte) (n int, err error) {
	file, ok := e.pipe.(syscall.Conn)
	if !ok || e.left <= 0 {
		return 0, io.EOF
	}
	conn, err := file.SyscallConn()
	if err != nil {
		return 0, io.EOF
	}
	var rerr error
	err = conn.Read(func(fd uintptr) bool {
		for {
			n, rerr = syscall.Read(int(fd), b)
			if !errors.Is(rerr, syscall.EINTR) {
				return true
			}
		}
	})
	if err != nil || rerr != nil || n <= 0 {
		return 0, io.EOF
	}
	e.left -= n
	return n, nil
}
