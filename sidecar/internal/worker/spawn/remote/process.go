package remote

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// process is a child in another container. It implements local.Process for the pool.
// Its methods may be called concurrently.
type process struct {
	link  *link
	id    string
	nonce string

	up      chan struct{} // closed when it runs and both of its streams are connected
	failed  chan string   // why it does not run; buffered
	exited  chan struct{}
	leaving chan struct{} // closed when it is to take no more tasks

	mu          sync.Mutex
	pid         int
	stdin       net.Conn
	stdout      net.Conn
	over        bool // exited is closed
	left        bool // leaving is closed
	doomed      bool // SIGKILL was sent
	cut         bool
	sharedDeath bool
	fate        string
	ending      local.Ending
	read        int64 // bytes read from its stdin; 0 if unknown
	stderr      string
}

func newProcess(l *link, id, nonce string) *process {
	return &process{
		link: l, id: id, nonce: nonce, up: make(chan struct{}), failed: make(chan string, 1),
		exited: make(chan struct{}), leaving: make(chan struct{}), ending: local.Ending{Code: -1},
	}
}

// attach sets one of the process's streams. It returns false if the stream was not
// expected.
func (p *process) attach(kind string, conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	stream := &p.stdin
	if kind == typeStdout {
		stream = &p.stdout
	}
	if p.over || *stream != nil {
		return false
	}
	*stream = conn
	p.upLocked()
	return true
}

// started records that the process runs.
func (p *process) started(pid int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || p.pid != 0 {
		return
	}
	p.pid = pid
	p.upLocked()
}

func (p *process) upLocked() {
	if p.pid != 0 && p.stdin != nil && p.stdout != nil {
		close(p.up)
	}
}

// end records how the process ended; only the first call counts.
func (p *process) end(set func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	p.over = true
	set()
	close(p.exited)
}

// exit records the end that the host has reported.
func (p *process) exit(m message) {
	p.end(func() {
		p.cut, p.stderr, p.read = m.Cut, m.Stderr, m.Read
		if sig := syscall.Signal(m.Signal); sig > 0 {
			p.ending = local.Ending{Code: -1, Signal: sig}
			p.fate = "was killed by " + local.SignalName(sig)
		} else {
			p.ending = local.Ending{Code: m.Code}
			p.fate = fmt.Sprintf("exited with status %d", m.Code)
		}
		if m.Reason != "" { // the host knows more
			p.fate = m.Reason
		}
	})
}

// lost records the end of a process whose host is gone. shared says that the host had
// other processes.
func (p *process) lost(reason string, shared bool) {
	p.end(func() { p.fate, p.sharedDeath = reason, shared })
}

// leave makes the process take no more tasks.
func (p *process) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.left {
		p.left = true
		close(p.leaving)
	}
}

// discard ends a process that has received no message.
func (p *process) discard() {
	p.link.say(message{Type: typeSignal, Child: p.id, Signal: int(syscall.SIGKILL)})
	p.end(func() { p.fate = "was given up" })
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range []net.Conn{p.stdin, p.stdout} {
		if c != nil {
			_ = c.Close()
		}
	}
}

// Pid returns the number of the process in its own container, for the log.
func (p *process) Pid() int { return p.pid }

func (p *process) Stdin() local.WritePipe { return p.stdin }
func (p *process) Stdout() local.ReadPipe { return p.stdout }

// Stderr returns the last lines that the host sent when the process failed. The stderr
// itself goes to the log of the other container.
func (p *process) Stderr() local.ReadPipe { return &lastWords{p: p, closed: make(chan struct{})} }

// Exited is closed when the host has reported the end, or is gone.
func (p *process) Exited() <-chan struct{} { return p.exited }

// killPatience is how long a host may take to report the death of a child after
// SIGKILL. A frozen host never reports, and a stop has to end.
const killPatience = 2 * time.Second

// Signal makes the host send sig to the process's group. If the process is not dead
// killPatience after a SIGKILL, it is given up together with its host, which kills all
// its processes when it notices.
func (p *process) Signal(sig syscall.Signal) {
	p.mu.Lock()
	over, doomed := p.over, p.doomed
	p.doomed = doomed || sig == syscall.SIGKILL
	p.mu.Unlock()
	if over {
		return
	}
	p.link.say(message{Type: typeSignal, Child: p.id, Signal: int(sig)})
	if sig != syscall.SIGKILL || doomed {
		return
	}
	timer := time.AfterFunc(killPatience, func() { p.link.drop("does not kill what it is told to") })
	go func() {
		<-p.exited
		timer.Stop()
	}()
}

// Fate describes how the process ended. It may be called after Exited.
func (p *process) Fate() string { return p.fate }

// Ending returns how the process ended. It may be called after Exited.
func (p *process) Ending() local.Ending { return p.ending }

// Leaving implements [local.Leaving]: it is closed when the process is to take no more
// tasks.
func (p *process) Leaving() <-chan struct{} { return p.leaving }

// InputRead implements [local.InputRead].
func (p *process) InputRead(written int64) int64 {
	if p.read <= 0 {
		return written
	}
	return min(written, p.read)
}

// HostHangups implements [local.HostHangups].
func (p *process) HostHangups() *local.Hangups { return &p.link.hangups }

// HostStops implements [local.HostStops].
func (p *process) HostStops() <-chan struct{} { return p.link.stopping }

// Excused implements [local.Excused].
func (p *process) Excused() bool { return p.cut }

// SharedDeath implements [local.SharedDeath].
func (p *process) SharedDeath() bool { return p.sharedDeath }

// lastWords is a stream that is empty until the process has ended.
type lastWords struct {
	p      *process
	once   sync.Once
	closed chan struct{}
	text   *strings.Reader
}

func (w *lastWords) Read(b []byte) (int, error) {
	select {
	case <-w.p.exited:
	case <-w.closed:
	}
	if w.text == nil {
		select {
		case <-w.p.exited:
			w.text = strings.NewReader(w.p.stderr)
		default:
			w.text = strings.NewReader("")
		}
	}
	return w.text.Read(b)
}

func (w *lastWords) Close() error {
	w.once.Do(func() { close(w.closed) })
	return nil
}

// SetReadDeadline ends a read that waits.
func (w *lastWords) SetReadDeadline(time.Time) error { return w.Close() }
