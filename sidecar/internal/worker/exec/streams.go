package exec

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// streams are the sidecar's ends of the pipes of a process.
type streams struct {
	p       local.Process
	tail    local.Tail
	out     []byte        // the output; set by close
	tooLong chan struct{} // closed when the output exceeds the limit of a result

	stdout, stderr *pipeEnd
	late           *time.Timer // starts the readers; nil if they have been started
	readNow        func()      // starts the readers at once

	fed, read1, read2 chan struct{} // closed when stdin, stdout and stderr have ended
	once              sync.Once
}

// readersAfter is the age of a process at which the readers of its pipes start. Most
// processes that end sooner have left all their output in the pipes, which hold 64 KiB.
// The two goroutines that this saves are a measurable share of the cost of a task.
const readersAfter = 10 * time.Millisecond

// pipeCapacity is the capacity of a pipe. After a task with more output the readers of
// later tasks start at once, because a full pipe would have delayed it.
const pipeCapacity = 64 << 10

// feed writes the record as a line and closes the pipe; without the line end, read of a
// shell reports a failure. The process may leave the record unread: the write then ends
// when close closes the pipe.
func feed(p local.Process, record []byte) {
	if _, err := p.Stdin().Write(record); err == nil {
		_, _ = p.Stdin().Write([]byte{'\n'})
	}
	_ = p.Stdin().Close()
}

// collect reads the output of the process, also beyond the limit, so that the process
// never blocks in a write.
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

// outputGrace is how long to wait for the end of a dead process's output. Only a
// grandchild outside the process group keeps the pipe open, and its output does not
// belong to the task.
const outputGrace = 100 * time.Millisecond

// close ends the process if it still runs, reads its remaining output, and closes the
// pipes.
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

// pipeEnd reads a pipe to its end or, once its deadline has passed, what is in the pipe
// at that time: the pipe then has everything that the process itself wrote.
type pipeEnd struct {
	pipe local.ReadPipe
	late bool
	left int // bytes that may still be read after the deadline
	seen int // bytes read
}

// pipeHolds is the maximum capacity of a pipe that an unprivileged process can set. It
// bounds the read from a grandchild that writes without pause.
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

// drainNow makes the next reads return without waiting.
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
