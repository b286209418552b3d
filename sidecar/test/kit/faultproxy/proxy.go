// Package faultproxy is a proxy between a Redis client and its server that
// causes faults for tests: it cuts a connection after a chosen request and
// before its reply, delivers requests late, delays and slices bytes, and stalls
// and refuses connections.
//
// The proxy parses the requests (not the replies). A proxy that sees only bytes,
// such as toxiproxy, cannot cut a connection "after the request and before the
// reply, for every command".
package faultproxy

import (
	"errors"
	"net"
	"sync"
	"time"
)

// Action is what the proxy does with one request.
type Action int

const (
	// Pass passes the request and its reply on.
	Pass Action = iota
	// CutBefore ends the connection in place of passing the request on.
	CutBefore
	// CutAfter passes the request on, waits for the server's reply, which shows
	// that the server has executed the request, and ends the connection before a
	// byte of the reply reaches the client.
	CutAfter
	// ResetAfter is CutAfter with a reset (RST) in place of an orderly end.
	ResetAfter
	// Swallow passes the request on and drops its reply; the connection stays
	// open and the client waits for a reply that never comes.
	Swallow
	// Late ends the client's connection at once and passes the request on after
	// Verdict.Delay, as a network may do with what a dead client has sent.
	Late
)

// Verdict is what a Rule decides about one request.
type Verdict struct {
	Action Action
	Delay  time.Duration
}

// Rule decides about each request. The goroutines of the connections call it
// concurrently, and the request waits until it returns.
type Rule func(Command) Verdict

// Shape is how the proxy delays and slices bytes, in both directions. The zero
// value passes them on at once.
type Shape struct {
	Latency time.Duration // before each piece
	Jitter  time.Duration // longest random addition to Latency
	Slice   int           // most bytes in one write; 0 means no limit
	Gap     time.Duration // between slices
}

// Proxy listens on a loopback port. Its methods are safe for concurrent use.
type Proxy struct {
	addr string
	wg   sync.WaitGroup

	mu       sync.Mutex
	ln       net.Listener // nil while the proxy refuses connections
	upstream string
	rule     Rule
	replied  func(Command)
	shape    Shape
	stalled  chan struct{} // closed when a stall ends; nil while there is none
	conns    map[*conn]struct{}
	accepted []time.Time
	closed   chan struct{}
	isClosed bool
}

// Start starts a proxy to upstream, a host:port. The caller has to close it.
func Start(upstream string) (*Proxy, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &Proxy{
		addr: ln.Addr().String(), ln: ln, upstream: upstream,
		conns: make(map[*conn]struct{}), closed: make(chan struct{}),
	}
	p.wg.Go(func() { p.accept(ln) })
	return p, nil
}

// Addr returns the host:port to connect to. It stays the same after Refuse.
func (p *Proxy) Addr() string { return p.addr }

// Close ends every connection and returns when all goroutines of the proxy have ended.
func (p *Proxy) Close() {
	p.mu.Lock()
	if !p.isClosed {
		p.isClosed = true
		close(p.closed)
	}
	p.mu.Unlock()
	p.down()
	p.wg.Wait()
}

// SetRule sets the rule for requests from now on; nil passes them all on.
func (p *Proxy) SetRule(r Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule = r
}

// SetReplied sets a function that the proxy calls when it has passed the first
// bytes of a request's reply on to the client; nil sets none.
func (p *Proxy) SetReplied(f func(Command)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.replied = f
}

// SetShape sets the Shape for bytes from now on.
func (p *Proxy) SetShape(s Shape) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.shape = s
}

// SetUpstream leads new connections to another server; existing ones stay.
func (p *Proxy) SetUpstream(addr string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.upstream = addr
}

// Stall holds all bytes back until Resume; the connections stay open.
func (p *Proxy) Stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stalled == nil {
		p.stalled = make(chan struct{})
	}
}

// Resume ends a Stall and passes on what was held back.
func (p *Proxy) Resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stalled != nil {
		close(p.stalled)
		p.stalled = nil
	}
}

// Refuse ends every connection with a reset and refuses new ones until Accept.
func (p *Proxy) Refuse() { p.down() }

// Accept ends a Refuse: the proxy listens again, on the same port.
func (p *Proxy) Accept() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ln != nil || p.isClosed {
		return nil
	}
	ln, err := net.Listen("tcp", p.addr)
	if err != nil {
		return err
	}
	p.ln = ln
	p.wg.Go(func() { p.accept(ln) })
	return nil
}

// Reset ends every connection with a reset; new ones are accepted.
func (p *Proxy) Reset() {
	for _, c := range p.all() {
		c.reset()
	}
}

// Accepted returns when each connection was accepted, the oldest first.
func (p *Proxy) Accepted() []time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]time.Time(nil), p.accepted...)
}

// IsOpen reports whether the connection with this number (Command.Conn) is open.
func (p *Proxy) IsOpen(conn int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		if c.id == conn {
			return true
		}
	}
	return false
}

func (p *Proxy) down() {
	p.mu.Lock()
	ln := p.ln
	p.ln = nil
	p.mu.Unlock()
	if ln != nil {
		_ = ln.Close() // an error means that it is closed already
	}
	p.Reset()
}

func (p *Proxy) all() []*conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*conn, 0, len(p.conns))
	for c := range p.conns {
		all = append(all, c)
	}
	return all
}

func (p *Proxy) accept(ln net.Listener) {
	for {
		client, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // a client that has left already
		}
		p.mu.Lock()
		if p.ln != ln {
			p.mu.Unlock()
			_ = client.Close()
			return
		}
		p.accepted = append(p.accepted, time.Now())
		c := &conn{p: p, id: len(p.accepted), client: client, dead: make(chan struct{})}
		p.conns[c] = struct{}{}
		upstream := p.upstream
		p.mu.Unlock()
		p.wg.Go(func() { c.serve(upstream) })
	}
}

func (p *Proxy) forget(c *conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

func (p *Proxy) decide(cmd Command) Verdict {
	p.mu.Lock()
	rule := p.rule
	p.mu.Unlock()
	if rule == nil {
		return Verdict{}
	}
	return rule(cmd)
}

func (p *Proxy) tell(cmd Command) {
	p.mu.Lock()
	f := p.replied
	p.mu.Unlock()
	if f != nil {
		f(cmd)
	}
}
