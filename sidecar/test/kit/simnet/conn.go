package simnet

import (
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// connWindow is how many bytes of a connection are on their way at most.
const connWindow = 256 << 10

// Action is what happens to one request and its reply. The zero value lets both pass.
type Action struct {
	Fault Fault
	// Delay is that of Late, DelayRequest, DelayReply and Stall.
	Delay time.Duration
}

// Fault is a way to break a request.
type Fault string

// The faults of a request.
const (
	// CutBefore resets the connection; nothing arrives.
	CutBefore Fault = "cut before"
	// CutWithin resets the connection after half of the request.
	CutWithin Fault = "cut within"
	// CutAfter resets the connection in place of the reply.
	CutAfter Fault = "cut after"
	// CutReply resets the connection after half of the reply.
	CutReply Fault = "cut reply"
	// Late resets the connection at once, and the request arrives later.
	Late Fault = "late"
	// DelayRequest and DelayReply delay one direction.
	DelayRequest Fault = "delay request"
	DelayReply   Fault = "delay reply"
	// DropReply lets the client wait for a reply that never comes.
	DropReply Fault = "drop reply"
	// Stall holds both directions for a time.
	Stall Fault = "stall"
)

// Faults lists all faults of a request.
func Faults() []Fault {
	return []Fault{CutBefore, CutWithin, CutAfter, CutReply, Late, DelayRequest, DelayReply, DropReply, Stall}
}

// link is one connection, seen from outside.
type link struct {
	host     *Host
	up, down *stream // to the server, and to the client

	mu     sync.Mutex
	asking bool   // a request is on its way, or its reply
	action Action // for it
}

// client is the end of a connection that the sidecar has.
type client struct{ *link }

// server is the end that Redis has.
type server struct{ *link }

// Read reads from a reply.
func (c client) Read(b []byte) (int, error) {
	n, err := c.down.read(b)
	if n > 0 {
		c.mu.Lock()
		c.asking = false
		c.mu.Unlock()
	}
	return n, err
}

// Write sends a request, or a part of one.
func (c client) Write(b []byte) (int, error) {
	c.mu.Lock()
	first := !c.asking
	c.asking = true
	c.mu.Unlock()
	if !first {
		return c.up.write(b, 0)
	}
	action := c.host.decide(b)
	c.mu.Lock()
	c.action = action
	c.mu.Unlock()
	switch action.Fault {
	case CutBefore:
		c.cut()
		return len(b), nil
	case CutWithin:
		_, _ = c.up.write(b[:len(b)/2], 0) // the connection is being cut
		c.up.end()
		c.down.fail(syscall.ECONNRESET)
		return len(b), nil
	case Late:
		_, err := c.up.write(b, action.Delay)
		c.up.end()
		c.down.fail(syscall.ECONNRESET)
		return len(b), err
	case DelayRequest:
		return c.up.write(b, action.Delay)
	case Stall:
		c.hold(true)
		time.AfterFunc(action.Delay, func() { c.hold(false) })
	}
	return c.up.write(b, 0)
}

// Close ends the connection.
func (c client) Close() error {
	c.up.end()
	c.down.close(syscall.EPIPE)
	return nil
}

func (c client) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
func (c client) SetReadDeadline(t time.Time) error  { c.down.setReadDeadline(t); return nil }
func (c client) SetWriteDeadline(t time.Time) error { c.up.setWriteDeadline(t); return nil }
func (c client) LocalAddr() net.Addr                { return address(c.host.name) }
func (c client) RemoteAddr() net.Addr               { return address("redis") }

// SyscallConn lets go-redis ask whether the connection is closed, which it does with a
// descriptor where there is one.
func (c client) SyscallConn() (syscall.RawConn, error) { return rawConn(c), nil }

// rawConn answers the one question of go-redis: is there an end, or an unexpected byte, to
// be read?
type rawConn client

func (c rawConn) Read(func(fd uintptr) bool) error {
	c.down.mu.Lock()
	defer c.down.mu.Unlock()
	now := time.Now()
	switch {
	case c.down.broken != nil:
		return c.down.broken
	case c.down.held:
		return nil
	case c.down.eof && !now.Before(c.down.eofAt):
		return io.EOF
	case c.down.arrivedLocked(now) > 0:
		return errUnexpected
	}
	return nil
}

var errUnexpected = errors.New("simnet: the other end has sent bytes before a request")

// Control implements [syscall.RawConn].
func (rawConn) Control(func(fd uintptr)) error { return errors.ErrUnsupported }

func (rawConn) Write(func(fd uintptr) bool) error { return errors.ErrUnsupported }

// Read reads from requests.
func (s server) Read(b []byte) (int, error) { return s.up.read(b) }

// Write sends a reply, or a part of one.
func (s server) Write(b []byte) (int, error) {
	s.mu.Lock()
	action := s.action
	s.action = Action{}
	s.mu.Unlock()
	switch action.Fault {
	case CutAfter:
		s.cut()
		return 0, syscall.EPIPE
	case CutReply:
		_, _ = s.down.write(b[:len(b)/2], 0) // the connection is being cut
		s.down.end()
		s.up.fail(syscall.ECONNRESET)
		return 0, syscall.EPIPE
	case DropReply:
		s.mu.Lock()
		s.action = action // the next one, too
		s.mu.Unlock()
		return len(b), nil
	case DelayReply:
		return s.down.write(b, action.Delay)
	}
	return s.down.write(b, 0)
}

// Close ends the connection.
func (s server) Close() error {
	s.host.forget(s.link)
	s.down.end()
	s.up.close(syscall.EPIPE)
	return nil
}

func (s server) SetDeadline(t time.Time) error {
	return errors.Join(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}
func (s server) SetReadDeadline(t time.Time) error  { s.up.setReadDeadline(t); return nil }
func (s server) SetWriteDeadline(t time.Time) error { s.down.setWriteDeadline(t); return nil }
func (s server) LocalAddr() net.Addr                { return address("redis") }
func (s server) RemoteAddr() net.Addr               { return address(s.host.name) }

// cut resets the connection at both ends.
func (l *link) cut() {
	l.up.fail(syscall.ECONNRESET)
	l.down.fail(syscall.ECONNRESET)
}

func (l *link) hold(held bool) {
	l.up.hold(held)
	l.down.hold(held)
}

type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) + ":6379" }
