package exec

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// streams are our ends of a process's pipes.
type streams struct {
	p       local.Process
	tail    local.Tail
	out     []byte        // what it printed; only after close
	tooLong chan struct{} // closed when that is more than a result may be

	stdout, stderr *pipeEnd
	late           *time.Timer // has them read; nil where they are from the start
	readNow        func()      // reads what is in them

	fed, read1, read2 chan struct{} // closed when stdin, stdout and stderr are done with
	once              sync.Once
}

// readersAfter is how old a process is when the readers of its pipes start. Most
// processes that end sooner have left all their output in the pipes, which hold
// 64 KiB: two goroutines less, a measurable saving beside the cost of a fork.
const readersAfter = 10 * time.Millisecond

// pipeCapacity is what every pipe holds. Where a task has said more, the readers of the
// next ones begin at once: a full pipe would have kept it waiting for them.
const pipeCapacity = 64 << 10

// feed writes the record as a line and closes the pipe: without the line end a
// shell's read would call it a failure. That the process reads none of it is its
// own affair; the write ends then when close closes the pipe.
func feed(p local.Process, record []byte) {
	if _, err := p.Stdin().Write(record); err == nil {
		_, _ = p.Stdin().Write([]byte{'\n'})
	}
	_ = p.Stdin().Close()
}

// collect reads what the process prints, and goes on reading beyond the limit so
// that the process never blocks in a write.
func (st *streams) collect(most int) {
	buf := make([]byte, 0, 512)
	for {
		n, err := st.stdout.Read(buf[len(buf):cap(buf)])
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
		<-st.fed
		switch {
		case st.late != nil && st.late.Stop():
			st.readNow()
		case !local.Within(st.read1, outputGrace) || !local.Within(st.read2, outputGrace):
			_ = st.p.Stdout().SetReadDeadline(time.Now())
			_ = st.p.Stderr().SetReadDeadline(time.Now())
		}
		<-st.read1
		<-st.read2
		_ = st.p.Stdout().Close()
		_ = st.p.Stderr().Close()
	})
}

// pipeEnd reads a pipe to its end or, once its deadline has passed, what is in
// it at that time: all that the process itself wrote is there by then.
type pipeEnd struct {
	pipe local.ReadPipe
	late bool
	left int // bytes that may still be read then
	seen int // bytes that were read
}

// pipeHolds is the most that a pipe holds, unless a privileged process has made
// it larger. It bounds the read from a grandchild that writes without pause.
const pipeHolds = 1 << 20

func (e *pipeEnd) Read(b []byte) (n int, err error) {
	defer func() { e.seen += n }()
	if !e.late {
		n, err := e.pipe.Read(b)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		e.drainNow()
	}
	return e.rest(b)
}

// drainNow has the next reads wait for nothing.
func (e *pipeEnd) drainNow() { e.late, e.left = true, pipeHolds }

// rest reads without waiting.
func (e *pipeEnd) rest(b []byte) (n int, err error) {
	pipe, ok := e.pipe.(local.NowReader)
	if !ok || e.left <= 0 {
		return 0, io.EOF
	}
	n, err = pipe.ReadNow(b)
	if err != nil {
		return 0, io.EOF
	}
	e.left -= n
	return n, nil
}
