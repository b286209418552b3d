package app

import (
	"context"
	"io"
	"net"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// fakeWorkers starts worker processes that are goroutines: the stage is real,
// and so is the protocol, over pipes that a bubble of testing/synctest knows.
type fakeWorkers struct {
	stubborn bool          // reads and answers nothing but initialize; ends by SIGKILL
	slow     time.Duration // of each task

	mu         sync.Mutex
	broken     bool // the next start panics
	asks       bool // each task reads its channel when its time is over
	brokenPipe bool // whatever is read next from a worker panics
	procs      []*fakeProc
}

func (w *fakeWorkers) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// absentCommand is one that is not there.
const absentCommand = "absent"

// Commands that are no workers of the protocol. The first is there, since mode
// exec looks for it.
const (
	execCommand       = "/bin/true"  // a task's own process
	supervisedCommand = "supervised" // runs until it is told to stop
)

type fakeProc struct {
	workers               *fakeWorkers
	pid                   int
	stdin, stdout, stderr net.Conn // the sidecar's ends
	exited, killed, asked chan struct{}
	kill, ask             func()
	fate                  string
	env                   []string
}

func (p *fakeProc) Pid() int                { return p.pid }
func (p *fakeProc) Stdin() local.WritePipe  { return p.stdin }
func (p *fakeProc) Stdout() local.ReadPipe  { return brittlePipe{p.stdout, p.workers} }
func (p *fakeProc) Stderr() local.ReadPipe  { return p.stderr }
func (p *fakeProc) Exited() <-chan struct{} { return p.exited }
func (p *fakeProc) Fate() string            { return p.fate }

func (p *fakeProc) Signal(sig syscall.Signal) {
	switch sig {
	case syscall.SIGKILL:
		p.kill()
	case syscall.SIGTERM:
		p.ask()
	}
}

func (p *fakeProc) Ending() local.Ending {
	select {
	case <-p.killed:
		return local.Ending{Code: -1, Signal: syscall.SIGKILL}
	default:
		return local.Ending{}
	}
}

func (w *fakeWorkers) start(cmd *exec.Cmd) (local.Process, error) {
	w.mu.Lock()
	broken := w.broken
	w.mu.Unlock()
	switch {
	case broken:
		panic("process is broken")
	case cmd.Args[0] == absentCommand:
		return nil, exec.ErrNotFound
	}
	p := &fakeProc{workers: w, exited: make(chan struct{}), killed: make(chan struct{}), asked: make(chan struct{}), fate: "exited with status 0", env: cmd.Environ()}
	var in, out, errs net.Conn
	p.stdin, in = net.Pipe()
	p.stdout, out = net.Pipe()
	p.stderr, errs = net.Pipe()
	closeAll := func() { // as the kernel does when a process ends
		for _, c := range []net.Conn{in, out, errs} {
			_ = c.Close()
		}
	}
	p.kill = sync.OnceFunc(func() {
		p.fate = "was killed"
		close(p.killed)
		closeAll()
	})
	p.ask = sync.OnceFunc(func() { close(p.asked) })
	w.mu.Lock()
	w.procs = append(w.procs, p)
	p.pid = 1000 + len(w.procs)
	w.mu.Unlock()
	go func() {
		switch {
		case cmd.Args[0] == execCommand:
			w.execute(p, in, out)
		case cmd.Args[0] == supervisedCommand:
			w.stay(p)
		case w.stubborn:
			ignore(in, out)
			<-p.killed
		default:
			_ = protocol.Serve(context.Background(), w.handler(p), protocol.WithIO(in, out))
		}
		closeAll()
		close(p.exited)
	}()
	return p, nil
}

// execute is a process of mode exec. It ignores SIGTERM, as a program may.
func (w *fakeWorkers) execute(p *fakeProc, in io.Reader, out io.Writer) {
	_, _ = io.Copy(io.Discard, in)
	slow := w.slow
	if w.stubborn {
		slow = time.Hour
	}
	select {
	case <-time.After(slow):
		_, _ = io.WriteString(out, `"done"`)
	case <-p.killed:
	}
}

// stay is a program that takes its tasks itself.
func (w *fakeWorkers) stay(p *fakeProc) {
	asked := p.asked
	if w.stubborn {
		asked = nil
	}
	select {
	case <-asked:
		select {
		case <-time.After(w.slow):
		case <-p.killed:
		}
	case <-p.killed:
	}
}

func (w *fakeWorkers) handler(p *fakeProc) protocol.Handler {
	return func(ctx context.Context, t *protocol.Task) (any, error) {
		select {
		case <-time.After(w.slow):
		case <-p.killed:
		}
		w.mu.Lock()
		asks := w.asks
		w.mu.Unlock()
		if asks {
			if _, err := t.Channel().Get(ctx, "k", new(any)); err != nil {
				return nil, err
			}
		}
		return "done", nil
	}
}

// ignore answers initialize, and reads the rest to its end.
func ignore(in io.Reader, out io.Writer) {
	lines := protocol.NewLineReader(in, protocol.DefaultMaxMessageBytes)
	if line, err := lines.Next(); err == nil {
		if m, err := protocol.DecodeMessage(line); err == nil {
			answer := protocol.AppendResult(nil, m.ID, []byte(`{"protocolVersion":1,"worker":{"name":"stubborn","version":"1"},"concurrency":1,"capabilities":{}}`))
			_, _ = out.Write(append(answer, '\n'))
		}
	}
	for {
		if _, err := lines.Next(); err != nil {
			return
		}
	}
}

// brittlePipe is our end of a worker's stdout.
type brittlePipe struct {
	net.Conn
	workers *fakeWorkers
}

func (b brittlePipe) Read(p []byte) (int, error) {
	n, err := b.Conn.Read(p)
	b.workers.mu.Lock()
	defer b.workers.mu.Unlock()
	if b.workers.brokenPipe {
		panic("the reader of a worker's answers is broken")
	}
	return n, err
}

// left is how many processes have not ended.
func (w *fakeWorkers) left() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.procs {
		select {
		case <-p.exited:
		default:
			n++
		}
	}
	return n
}

// all is every process that was started.
func (w *fakeWorkers) all() []*fakeProc {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.procs)
}
