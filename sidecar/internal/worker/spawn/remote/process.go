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

// process is a child in another container, as the pool sees it. Its methods may
// be called concurrently.
type process struct {
	link  *link
	id    string
	nonce string

	up      chan struct{} // closed when it runs and both its streams are there
	failed  chan string   // why it does not; buffered
	exited  chan struct{}
	leaving chan struct{} // closed when it is to take nothing more

	mu      sync.Mutex
	pid     int
	stdin   net.Conn
	stdout  net.Conn
	over    bool // exited is closed
	left    bool // leaving is closed
	doomed  bool // SIGKILL was asked for
	cut     bool
	company bool
	fate    string
	ending  local.Ending
	read    int64 // bytes of its stdin; 0 if that is not known
	stderr  string
}

func newProcess(l *link, id, nonce string) *process {
	return &process{
		link: l, id: id, nonce: nonce, up: make(chan struct{}), failed: make(chan string, 1),
		exited: make(chan struct{}), leaving: make(chan struct{}), ending: local.Ending{Code: -1},
	}
}

// attach takes one of the process's streams and reports whether it was expected.
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

// started notes that the process runs.
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

// end notes how the process ended; only the first call counts.
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

// exit notes the end that the host has reported.
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
		if m.Reason != "" { // its host knows more
			p.fate = m.Reason
		}
	})
}

// lost notes the end of a process whose host is gone. company says that the host had
// other processes, too.
func (p *process) lost(reason string, company bool) {
	p.end(func() { p.fate, p.company = reason, company })
}

// leave has the process take no further tasks.
func (p *process) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.left {
		p.left = true
		close(p.leaving)
	}
}

// discard ends a process that has had no message yet.
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

// Pid is the process's number in its own container: a label.
func (p *process) Pid() int { return p.pid }

func (p *process) Stdin() local.WritePipe { return p.stdin }
func (p *process) Stdout() local.ReadPipe { return p.stdout }

// Stderr has the last lines that the host sent when the process failed: stderr itself
// goes to that container's log.
func (p *process) Stderr() local.ReadPipe { return &lastWords{p: p, closed: make(chan struct{})} }

// Exited is closed when the host has reported the end, or is gone.
func (p *process) Exited() <-chan struct{} { return p.exited }

// killPatience is how long a host may take to report the death of a child that it was
// to kill. A frozen host never reports, and a stop has to end.
const killPatience = 2 * time.Second

// Signal has the host send sig to the process's group. A process that is not dead
// killPatience after a SIGKILL is given up, and so is its host, which kills all its
// processes when it notices.
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

// Fate says in words how the process ended. Call it after Exited.
func (p *process) Fate() string { return p.fate }

// Ending returns how the process ended. Call it after Exited.
func (p *process) Ending() local.Ending { return p.ending }

// Leaving is closed when the process is to take no further tasks: see [local.Leaving].
func (p *process) Leaving() <-chan struct{} { return p.leaving }

// InputRead: see [local.InputRead].
func (p *process) InputRead(written int64) int64 {
	if p.read <= 0 {
		return written
	}
	return min(written, p.read)
}

// HostHangups: see [local.HostHangups].
func (p *process) HostHangups() *local.Hangups { return &p.link.hangups }

// HostStops: see [local.HostStops].
func (p *process) HostStops() <-chan struct{} { return p.link.stopping }

// Excused: see [local.Excused].
func (p *process) Excused() bool { return p.cut }

// Company: see [local.Company].
func (p *process) Company() bool { return p.company }

// lastWords is a stream that has nothing until the process has ended.
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
