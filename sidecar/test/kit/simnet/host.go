package simnet

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"
)

// Network leads hosts to one server.
type Network struct {
	serve func(net.Conn)

	mu    sync.Mutex
	hosts []*Host
	down  bool
}

// New returns a network. serve serves one connection, until it is closed.
func New(serve func(net.Conn)) *Network { return &Network{serve: serve} }

// SetDown lets the server vanish: all connections are reset, and dials are refused. false
// brings it back.
func (n *Network) SetDown(down bool) {
	n.mu.Lock()
	n.down = down
	hosts := n.hosts
	n.mu.Unlock()
	if down {
		for _, h := range hosts {
			h.Cut()
		}
	}
}

// Down reports whether the server has vanished.
func (n *Network) Down() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.down
}

// Host is one client of the network. Its methods may be called concurrently.
type Host struct {
	net    *Network
	name   string
	decide func(request []byte) Action

	mu      sync.Mutex
	links   map[*link]struct{}
	dead    bool
	refuses bool
	thawed  chan struct{} // closed at the end of a freeze; nil without one
	latency time.Duration
	rate    int
}

// Host adds a client. decide says what happens to each request; nil lets all pass.
func (n *Network) Host(name string, decide func(request []byte) Action) *Host {
	if decide == nil {
		decide = func([]byte) Action { return Action{} }
	}
	h := &Host{net: n, name: name, decide: decide, links: make(map[*link]struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts = append(n.hosts, h)
	return h
}

// Dial opens a connection to the server.
func (h *Host) Dial(ctx context.Context, _, _ string) (net.Conn, error) {
	for {
		h.mu.Lock()
		thawed, latency := h.thawed, h.latency
		refused := h.dead || h.refuses
		h.mu.Unlock()
		switch {
		case refused || h.net.Down():
			return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: address("redis"), Err: syscall.ECONNREFUSED}
		case thawed != nil:
			select {
			case <-thawed:
				continue
			case <-ctx.Done():
				return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: address("redis"), Err: context.Cause(ctx)}
			}
		case latency > 0:
			timer := time.NewTimer(2 * latency)
			select {
			case <-timer.C:
			case <-ctx.Done():
				timer.Stop()
				return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: address("redis"), Err: context.Cause(ctx)}
			}
		}
		if l := h.open(); l != nil {
			go h.net.serve(server{l})
			return client{l}, nil
		}
	}
}

// open makes a connection, or returns nil if the host has changed meanwhile.
func (h *Host) open() *link {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dead || h.refuses || h.thawed != nil || h.net.Down() {
		return nil
	}
	l := &link{host: h, up: newStream(connWindow), down: newStream(connWindow)}
	l.up.shape(h.latency, h.rate)
	l.down.shape(h.latency, h.rate)
	h.links[l] = struct{}{}
	return l
}

func (h *Host) forget(l *link) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.links, l)
}

// each calls f with each open connection, and forgets them if that is wanted.
func (h *Host) each(forget bool, f func(*link)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.links {
		f(l)
	}
	if forget {
		clear(h.links)
	}
}

// Cut resets all connections.
func (h *Host) Cut() { h.each(true, (*link).cut) }

// Kill ends the host as the death of its process does: what it has sent arrives, its
// connections end, and it gets no further one.
func (h *Host) Kill() {
	h.mu.Lock()
	h.dead = true
	if h.thawed != nil {
		close(h.thawed)
		h.thawed = nil
	}
	h.mu.Unlock()
	h.each(true, func(l *link) {
		l.hold(false)
		l.up.end()
		l.down.fail(syscall.ECONNRESET)
	})
}

// Refuse makes dials fail, or lets them succeed again. Open connections stay.
func (h *Host) Refuse(refuse bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refuses = refuse
}

// Freeze holds all connections, and dials, until Thaw: nothing arrives in either
// direction, and nothing is lost.
func (h *Host) Freeze() {
	h.mu.Lock()
	if h.thawed == nil && !h.dead {
		h.thawed = make(chan struct{})
	}
	h.mu.Unlock()
	h.each(false, func(l *link) { l.hold(true) })
}

// Thaw ends a Freeze.
func (h *Host) Thaw() {
	h.mu.Lock()
	if h.thawed != nil {
		close(h.thawed)
		h.thawed = nil
	}
	h.mu.Unlock()
	h.each(false, func(l *link) { l.hold(false) })
}

// Shape sets the latency of each direction and its rate in bytes a second, 0 for an unlimited rate.
func (h *Host) Shape(latency time.Duration, rate int) {
	h.mu.Lock()
	h.latency, h.rate = latency, rate
	h.mu.Unlock()
	h.each(false, func(l *link) {
		l.up.shape(latency, rate)
		l.down.shape(latency, rate)
	})
}

// Dead reports whether the host was killed.
func (h *Host) Dead() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dead
}
