package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/unixsocket"
)

// session is one connection of a host, with its children.
type session struct {
	host     *Host
	conn     net.Conn
	fatal    chan error // why the host must end; buffered
	children sync.WaitGroup

	writing sync.Mutex

	mu       sync.Mutex
	running  map[string]*hosted
	draining bool
	ended    bool
	bye      bool
	vacant   chan struct{} // closed when the host drains and no child runs
}

// hosted is one child of a session.
type hosted struct {
	id     string
	proc   local.Process // nil until it is started
	killed bool          // killed before it was started
	asked  bool          // the sidecar ends it
	cut    bool          // the host ends it, because the time of the host's stop is over
}

func newSession(h *Host, conn net.Conn) *session {
	return &session{host: h, conn: conn, fatal: make(chan error, 1), running: make(map[string]*hosted), vacant: make(chan struct{})}
}

// say sends a message to the sidecar. It ignores errors: the reader notices the end of
// the connection.
func (s *session) say(m message) {
	s.writing.Lock()
	defer s.writing.Unlock()
	if err := say(s.conn, m); err != nil {
		_ = s.conn.Close()
	}
}

// take handles a message of the sidecar.
func (s *session) take(m message) {
	switch m.Type {
	case typeStart:
		s.children.Go(func() { s.run(m) })
	case typeSignal:
		s.signal(m.Child, syscall.Signal(m.Signal))
	case typeBye:
		s.mu.Lock()
		s.bye = true
		s.mu.Unlock()
	}
}

func (s *session) saidBye() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bye
}

// signal forwards a signal to a child.
func (s *session) signal(id string, sig syscall.Signal) {
	s.mu.Lock()
	c := s.running[id]
	var p local.Process
	if c != nil {
		p = c.proc
		c.asked = true
		c.killed = c.killed || sig == syscall.SIGKILL
	}
	s.mu.Unlock()
	if p != nil {
		p.Signal(sig)
	}
}

// drain tells the sidecar that the host stops.
func (s *session) drain() {
	s.mu.Lock()
	s.draining = true
	s.vacateLocked()
	s.mu.Unlock()
	s.say(message{Type: typeDrain})
}

// empty returns a channel that is closed when the host drains and no child runs.
func (s *session) empty() <-chan struct{} { return s.vacant }

func (s *session) vacateLocked() {
	if s.draining && len(s.running) == 0 {
		select {
		case <-s.vacant:
		default:
			close(s.vacant)
		}
	}
}

// end ends every child, because their results have no receiver any more. cut says that
// the time of the host's stop is over, so that the sidecar does not count the ends as
// crashes.
func (s *session) end(cut bool) {
	s.mu.Lock()
	s.ended = true
	var left []local.Process
	for _, c := range s.running {
		c.cut, c.killed = cut, true
		if c.proc != nil {
			left = append(left, c.proc)
		}
	}
	s.mu.Unlock()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	var wg sync.WaitGroup
	for _, p := range left {
		wg.Go(func() { local.End(now, p, func() { p.Stdin().Close() }, s.host.cfg.KillGrace) })
	}
	wg.Wait()
	if cut {
		<-s.vacant // every end has been reported
	}
}

// run runs a child until its end.
func (s *session) run(m message) {
	c := &hosted{id: m.Child}
	s.mu.Lock()
	refuse := s.draining || s.ended || s.running[c.id] != nil
	if !refuse {
		s.running[c.id] = c
	}
	s.mu.Unlock()
	if refuse {
		s.say(message{Type: typeFailed, Child: m.Child, Reason: "its container is stopping"})
		return
	}
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.running, c.id)
		s.vacateLocked()
	}()
	b, err := s.launch(m)
	if err != nil {
		s.say(message{Type: typeFailed, Child: m.Child, Reason: err.Error()})
		// The host ends too, after the sidecar has the reason: it would otherwise wait
		// for another container.
		if failure, ok := errors.AsType[*local.StartError](err); ok && failure.Attempts > 0 {
			select {
			case s.fatal <- failure:
			default:
			}
		}
		return
	}
	s.mu.Lock()
	c.proc = b.proc
	killed := c.killed
	s.mu.Unlock()
	if killed {
		b.proc.Signal(syscall.SIGKILL)
	}
	s.say(message{Type: typeStarted, Child: m.Child, PID: b.proc.Pid()})
	b.run()

	s.mu.Lock()
	cut, asked := c.cut, c.asked
	s.mu.Unlock()
	ending := local.EndingOf(b.proc)
	exit := message{Type: typeExit, Child: m.Child, Signal: int(ending.Signal), Code: ending.Code, Cut: cut, Reason: b.proc.Fate(), Read: local.InputRead(b.proc, b.fed)}
	if failed := ending.Code != 0; failed && !asked && !cut {
		exit.Stderr = lastLines(b.tail.Text() + "\n")
	}
	b.log.Info("worker ended", "reason", b.proc.Fate())
	s.say(exit)
}

// launch starts the child of a start message, with connections for its streams.
func (s *session) launch(m message) (*bridge, error) {
	h := s.host
	in, err := s.stream(typeStdin, m)
	if err != nil {
		return nil, err
	}
	out, err := s.stream(typeStdout, m)
	if err != nil {
		in.Close()
		return nil, err
	}
	cmd := exec.Command(h.cfg.Command[0], h.cfg.Command[1:]...)
	cmd.Dir = h.cfg.Dir
	cmd.Env = append(append(slices.Clip(h.cfg.Env), h.given(m.Env)...), local.IDVariable+"="+m.Mark)
	cmd.ExtraFiles = h.cfg.Files
	p, err := h.cfg.Start(cmd)
	if err != nil {
		_, _ = in.Close(), out.Close()
		return nil, s.missed(err)
	}
	s.mu.Lock()
	h.started = true
	s.mu.Unlock()
	log := h.cfg.Log.With("child", m.Child, "pid", p.Pid())
	log.Info("worker started")
	return &bridge{proc: p, in: in, out: out, log: log}, nil
}

// missed records that the command cannot be started. A command that never started is
// tried a bounded number of times and then ends the host, so that the error shows in
// the container with the wrong command.
func (s *session) missed(err error) error {
	h := s.host
	failure := &local.StartError{Worker: h.cfg.Name, Reason: local.StartReason(err), Err: err}
	s.mu.Lock()
	defer s.mu.Unlock()
	h.cfg.Log.Warn("worker could not be started", "error", failure.Reason)
	if h.started {
		return failure
	}
	h.missed++
	if h.tries.Failed(err) {
		failure.Attempts = h.missed
	}
	return failure
}

// stream opens a connection for one stream of a child.
func (s *session) stream(kind string, m message) (*net.UnixConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), helloTimeout)
	defer cancel()
	conn, err := dial(ctx, s.host.cfg.Socket)
	if err == nil {
		err = say(conn, message{Type: kind, Child: m.Child, Nonce: m.Nonce})
		if err == nil {
			err = conn.SetDeadline(time.Time{})
		}
	}
	if err != nil {
		if conn != nil {
			conn.Close()
		}
		return nil, fmt.Errorf("no connection for its %s: %w", kind, unixsocket.Cause(err))
	}
	return conn, nil
}
