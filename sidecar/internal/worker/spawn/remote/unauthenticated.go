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
	// maxUnauthenticated bounds the connections that have not said yet what they are,
	// and helloTimeout how long that may take.
	maxUnauthenticated = 64
	helloTimeout       = 5 * time.Second
	// maxHosts bounds the hosts: each has a connection without a time limit.
	maxHosts = 256
	// fileShare is which part of the descriptors either may take.
	fileShare = 8
)

// unauthenticated has the connections that have not said yet what they are, the oldest
// first. A newcomer beyond the bound takes the oldest one's place: silent connections
// would otherwise keep a worker container out. Its methods may be called concurrently.
type unauthenticated struct {
	most int

	mu    sync.Mutex
	conns []net.Conn
}

func newUnauthenticated(most int) *unauthenticated { return &unauthenticated{most: max(most, 1)} }

// enter adds a connection, and closes the oldest where there are too many.
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

// leave removes a connection; false where a newer one has taken its place.
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

// size is the number of connections.
func (l *unauthenticated) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// remindEvery is the least time between two log lines about refused connections.
const remindEvery = 10 * time.Second

// reminder bounds the log lines about what another process may do a thousand times a
// second: these lines would fill the log and its queue, so that others are dropped.
// The zero value is ready; it may be used concurrently.
type reminder struct {
	mu   sync.Mutex
	last time.Time
	more int
}

// due reports whether to log now, and the number of events that were not logged since
// the last line.
func (r *reminder) due() (more int, now bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.last.IsZero() && time.Since(r.last) < remindEvery {
		r.more++
		return 0, false
	}
	more, r.more, r.last = r.more, 0, time.Now()
	return more, true
}

// handshake finds out what a connection is for, and serves it if it is a host's. A
// child's stream is that child's from then on.
func (h *Hub) handshake(ctx context.Context, conn *net.UnixConn) {
	_ = conn.SetReadDeadline(time.Now().Add(helloTimeout))
	waiting := context.AfterFunc(ctx, func() { _ = conn.Close() }) // no stop waits for it
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
