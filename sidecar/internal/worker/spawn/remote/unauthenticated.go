package remote

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/unixsocket"
)

const (
	// maxUnauthenticated bounds the connections without a valid first line, and
	// helloTimeout the time until that line.
	maxUnauthenticated = 64
	helloTimeout       = 5 * time.Second
	// maxHosts bounds the hosts: each has a connection without a time limit.
	maxHosts = 256
	// fileShare is the share of the file descriptors that each of these bounds may use.
	fileShare = 8
)

// unauthenticated has the connections without a valid first line, the oldest first. A
// new connection beyond the bound replaces the oldest one: silent connections would
// otherwise keep a worker container out. Its methods may be called concurrently.
type unauthenticated struct {
	most int

	mu    sync.Mutex
	conns []net.Conn
}

func newUnauthenticated(most int) *unauthenticated { return &unauthenticated{most: max(most, 1)} }

// enter adds a connection, and closes the oldest if there are too many.
func (l *unauthenticated) enter(conn net.Conn) {
	l.mu.Lock()
	var oldest net.Conn
	if len(l.conns) >= l.most {
		oldest = l.conns[0]
		l.conns = slices.Delete(l.conns, 0, 1)
	}
	l.conns = append(l.conns, conn)
	l.mu.Unlock()
	if oldest != nil {
		_ = oldest.Close()
	}
}

// leave removes a connection. It returns false if a newer one has replaced it.
func (l *unauthenticated) leave(conn net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.conns, conn)
	if i < 0 {
		return false
	}
	l.conns = slices.Delete(l.conns, i, i+1)
	return true
}

// size returns the number of connections.
func (l *unauthenticated) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// reminderInterval is the minimum time between two log lines about refused connections.
const reminderInterval = 10 * time.Second

// reminder bounds the number of log lines about events that another process may cause a
// thousand times a second, and that would fill the log and its queue. The zero value is
// ready; it may be used concurrently.
type reminder struct {
	mu   sync.Mutex
	last time.Time
	more int
}

// due reports whether to log now, and the number of events since the last line.
func (r *reminder) due() (more int, now bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.last.IsZero() && time.Since(r.last) < reminderInterval {
		r.more++
		return 0, false
	}
	more, r.more, r.last = r.more, 0, time.Now()
	return more, true
}

// handshake reads the first line of a connection. It serves the control connection of a
// host, and attaches a stream to its child.
func (h *Hub) handshake(ctx context.Context, conn *net.UnixConn) {
	_ = conn.SetReadDeadline(time.Now().Add(helloTimeout))
	waiting := context.AfterFunc(ctx, func() { _ = conn.Close() }) // a stop does not wait for the connection
	m, err := first(conn)
	pushed := !h.unauthenticated.leave(conn)
	if !waiting() {
		return
	}
	_ = conn.SetReadDeadline(time.Time{})
	switch {
	case err == nil && m.Type == typeHello:
		if err := recoverpanic.Do(func() error { h.serve(conn, m); return nil }); err != nil {
			h.cfg.Log.Error("internal error in a connection to the worker socket", "error", err)
		}
	case err == nil && (m.Type == typeStdin || m.Type == typeStdout):
		if p := h.find(m.Child, m.Nonce); p != nil && p.attach(m.Type, conn) {
			return
		}
		h.cfg.Log.Debug("stream of an unknown worker on the worker socket", "child", m.Child)
	case pushed:
		h.cfg.Log.Debug("silent connection to the worker socket closed")
	case err == nil:
		if more, ok := h.refused.due(); ok {
			h.cfg.Log.Warn("wrong first message on the worker socket", "type", m.Type, "peer", unixsocket.Peer(conn), "more", more)
		}
	case !errors.Is(err, io.EOF): // EOF is a probe of the socket
		if more, ok := h.refused.due(); ok {
			h.cfg.Log.Warn("no first message on the worker socket", "error", err, "peer", unixsocket.Peer(conn), "more", more)
		}
	}
	_ = conn.Close()
}
