package remote

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/connlimit"
	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/unixsocket"
)

// Config is the configuration of a Hub. Path and Log are required.
type Config struct {
	Path    string
	Mode    os.FileMode // of the socket
	Version string      // of the binary, for the log
	// Env is added to the host's environment for every child. "{dir}" in it is replaced
	// by the folder of the socket in the host's container.
	Env []string
	Log *slog.Logger
}

// Hub is the sidecar's side of the socket: hosts connect to it, and it makes them start
// the children of the pool. Its methods may be called concurrently.
type Hub struct {
	cfg             Config
	socket          *unixsocket.Socket
	conns           sync.WaitGroup
	unauthenticated *unauthenticated
	// refused bounds the log lines about refused connections.
	refused reminder

	mu           sync.Mutex
	links        map[*link]struct{} // hosts that start children, or still have some
	moving       *process           // see balanceLocked
	next         int                // the number of the next child
	closed       bool
	loggedNoHost bool          // logged that no host is connected
	changed      chan struct{} // closed at the next change
}

// Listen makes the socket. It fails if another process serves the socket, or none can
// be made at the path. Run must be called afterwards, or Close.
func Listen(cfg Config) (*Hub, error) {
	socket, err := unixsocket.Listen(cfg.Path, cfg.Mode)
	if err != nil {
		return nil, err
	}
	return &Hub{
		cfg: cfg, socket: socket, unauthenticated: newUnauthenticated(min(maxUnauthenticated, connlimit.Files()/fileShare)),
		links: make(map[*link]struct{}), changed: make(chan struct{}),
	}, nil
}

// Run accepts connections until ctx ends, and returns when all are closed.
func (h *Hub) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, h.Close)()
	err := recoverpanic.Do(func() error { return h.accept(ctx) })
	h.Close()
	h.conns.Wait()
	return err
}

func (h *Hub) accept(ctx context.Context) error {
	pause := backoff.New(backoff.Policy{Min: 10 * time.Millisecond, Max: time.Second})
	for {
		conn, err := h.socket.Accept()
		switch {
		case err == nil:
			pause.Reset()
			h.unauthenticated.enter(conn)
			h.conns.Go(func() { h.handshake(ctx, conn) })
			continue
		case errors.Is(err, net.ErrClosed):
			return nil
		}
		h.cfg.Log.Warn("connection to the worker socket could not be accepted", "error", err) // such as no more descriptors
		pause.Sleep(ctx)
	}
}

// serve serves the control connection of a host, from its hello to its end.
func (h *Hub) serve(conn *net.UnixConn, hello message) {
	l := &link{
		hub: h, conn: conn, name: hello.Name, procs: make(map[string]*process), gone: make(chan struct{}), stopping: make(chan struct{}),
		log: h.cfg.Log.With("worker_container", hello.Name),
	}
	if h.isFull() {
		_ = say(conn, message{Type: typeRefused, Reason: fmt.Sprintf("%d worker containers are connected already", maxHosts)})
		return
	}
	if err := say(conn, message{Type: typeWelcome, V: min(hello.V, Version), Version: h.cfg.Version}); err != nil {
		return
	}
	if !h.join(l) {
		return
	}
	l.log.Info("worker container connected", "version", hello.Version, "peer", unixsocket.Peer(conn))
	l.fall(listen(conn, l.take))
}

// isFull reports whether the maximum number of hosts is connected.
func (h *Hub) isFull() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.links) >= min(maxHosts, connlimit.Files()/fileShare)
}

// find returns the child that a stream belongs to.
func (h *Hub) find(id, nonce string) *process {
	h.mu.Lock()
	defer h.mu.Unlock()
	for l := range h.links {
		if p := l.procs[id]; p != nil && subtle.ConstantTimeCompare([]byte(p.nonce), []byte(nonce)) == 1 {
			return p
		}
	}
	return nil
}

// errGone reports that the host has gone or drains: another host may start the child.
var errGone = errors.New("the worker container is gone")

// Start makes a process of the host's command; mark is its [local.IDVariable]. It waits
// until a host is connected or ctx ends. Of several hosts, the one with the fewest
// children starts it.
func (h *Hub) Start(ctx context.Context, mark string) (local.Process, error) {
	for {
		p, err := h.reserve(ctx)
		if err != nil {
			return nil, err
		}
		err = p.link.start(ctx, p, mark)
		if err == nil {
			return p, nil
		}
		h.forget(p)
		if !errors.Is(err, errGone) {
			return nil, err
		}
	}
}

// reserve waits for a host and counts a child of it.
func (h *Hub) reserve(ctx context.Context) (*process, error) {
	for {
		h.mu.Lock()
		if l := h.idlestLocked(); l != nil {
			h.next++
			p := newProcess(l, strconv.Itoa(h.next), rand.Text())
			l.procs[p.id] = p
			h.mu.Unlock()
			return p, nil
		}
		changed, closed := h.changed, h.closed
		h.logNoHostLocked()
		h.mu.Unlock()
		if closed {
			return nil, errors.New("the worker socket is closed")
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("no worker container is connected: %w", ctx.Err())
		}
	}
}

// logNoHostLocked logs once that no host is connected.
func (h *Hub) logNoHostLocked() {
	if !h.loggedNoHost && !h.closed {
		h.loggedNoHost = true
		h.cfg.Log.Info("no worker is connected: claiming no tasks", "socket", h.cfg.Path)
	}
}

// idlestLocked returns the host with the fewest children, or nil without a host.
func (h *Hub) idlestLocked() (best *link) {
	for l := range h.links {
		if !l.leaving && (best == nil || l.loadLocked() < best.loadLocked()) {
			best = l
		}
	}
	return best
}

// balanceLocked moves one child from the host with the most children to the one with
// the fewest, if their numbers differ by more than one: hosts that connect later would
// otherwise get no children. The child leaves when its tasks have ended, and the pool
// starts another one in its place, after which the hub balances again.
func (h *Hub) balanceLocked() {
	if h.moving != nil {
		return
	}
	idlest, busiest := h.idlestLocked(), (*link)(nil)
	for l := range h.links {
		if !l.leaving && (busiest == nil || l.loadLocked() > busiest.loadLocked()) {
			busiest = l
		}
	}
	if idlest == nil || busiest.loadLocked()-idlest.loadLocked() < 2 {
		return
	}
	if p := busiest.newestLocked(); p != nil {
		h.moving = p
		busiest.log.Info("worker moves to another container", "from", busiest.name, "to", idlest.name)
		p.leave()
	}
}

// join adds a host, unless the hub is closed.
func (h *Hub) join(l *link) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.links[l] = struct{}{}
	h.loggedNoHost = false
	h.balanceLocked()
	h.changeLocked()
	return true
}

// forget subtracts a child from its host's count.
func (h *Hub) forget(p *process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(p.link.procs, p.id)
	if h.moving == p {
		h.moving = nil
	}
}

func (h *Hub) changeLocked() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// Close announces the end to the hosts, closes all connections and removes the socket.
// The hosts kill their processes, so it must be called after the pool has ended. It may
// be called more than once.
func (h *Hub) Close() {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	h.closed = true
	links := make([]*link, 0, len(h.links))
	for l := range h.links {
		links = append(links, l)
	}
	h.changeLocked()
	h.mu.Unlock()
	_ = h.socket.Close()
	for _, l := range links {
		l.say(message{Type: typeBye})
		_ = l.conn.Close()
	}
}
