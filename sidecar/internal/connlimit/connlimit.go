// Package connlimit bounds the connections of an HTTP server. Clients that keep
// connections open then cannot use up the file descriptors and the memory that the rest
// of the process needs.
package connlimit

import (
	"container/list"
	"context"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"

	"github.com/graflow/graflow-sidecar/sidecar/internal/web/httpauth"
)

const (
	// maxConnections is the maximum number of connections, and share the part of the file
	// descriptors that they may use: the rest is for Redis and the workers.
	maxConnections = 224
	share          = 4
	// reservedShare is the part of the connections that is reserved for authenticated
	// requests.
	reservedShare = 7
	// spare is the number of connections that may be served in addition to the open ones:
	// closed ones whose goroutines have not ended yet, which net/http keeps for half a
	// second after an answer.
	spare = 32
)

// Files returns the number of file descriptors that the process may open.
func Files() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<20 {
		return 1 << 20
	}
	return int(limit.Cur)
}

// Default returns the maximum number of connections of one server.
func Default() int { return max(min(maxConnections, Files()/share), 8) }

// Limiter bounds the connections of one server. A new connection beyond the limit
// replaces the one that has been idle longest, so that a probe always gets through. Its
// methods may be called concurrently.
type Limiter struct {
	total              int
	maxUnauthenticated int // maximum number of concurrent unauthenticated requests

	// Authenticated reports whether a request is authenticated and may use a reserved
	// connection; nil treats every request as unauthenticated.
	Authenticated func(*http.Request) bool
	// Free are paths that are always served: their handlers end at once.
	Free []string

	served chan struct{} // a token for each connection that a goroutine serves

	mu     sync.Mutex
	conns  map[net.Conn]*conn
	idle   list.List // of *conn: idle connections, the longest idle first
	active int       // concurrent unauthenticated requests
}

// conn is one connection. Limiter.mu guards its fields.
type conn struct {
	net           net.Conn
	place         *list.Element // in idle; nil during a request
	authenticated bool          // its last request was authenticated
}

// New returns a limiter for at most total connections.
func New(total int) *Limiter {
	return &Limiter{
		total: total, maxUnauthenticated: total - max(total/reservedShare, 1), conns: make(map[net.Conn]*conn),
		served: make(chan struct{}, total+spare),
	}
}

type key struct{}

// Guard applies the limit to a server that serves nothing yet. The server must use a
// [Limiter.Listener].
func (l *Limiter) Guard(s *http.Server) {
	next := s.Handler
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { l.serve(w, r, next) })
	s.ConnState = l.change
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, key{}, c) }
}

// Listener wraps the listener of the guarded server. It accepts no more connections than
// can be served: each one costs a goroutine and two buffers until net/http has ended it,
// and a flood closes connections faster than a busy machine ends their goroutines.
func (l *Limiter) Listener(inner net.Listener) net.Listener {
	return &listener{Listener: inner, served: l.served, closed: make(chan struct{})}
}

type listener struct {
	net.Listener
	served chan struct{}
	once   sync.Once
	closed chan struct{}
}

// Accept waits for a token and accepts a connection. It waits only for the goroutines of
// closed connections: a new connection that can replace none of the open ones is closed
// itself.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case l.served <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.served
	}
	return c, err
}

func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

// Open returns the number of open connections.
func (l *Limiter) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// change is the ConnState callback. It is called for a new connection before that is
// served.
func (l *Limiter) change(c net.Conn, state http.ConnState) {
	l.mu.Lock()
	var victim net.Conn
	switch state {
	case http.StateNew:
		if len(l.conns) >= l.total {
			if victim = l.victimLocked(); victim == nil {
				victim = c // all other connections are serving a request
				break
			}
			l.forgetLocked(victim)
		}
		known := &conn{net: c}
		known.place = l.idle.PushBack(known)
		l.conns[c] = known
	case http.StateActive:
		if known := l.conns[c]; known != nil && known.place != nil {
			l.idle.Remove(known.place)
			known.place = nil
		}
	case http.StateIdle:
		if known := l.conns[c]; known != nil && known.place == nil {
			known.place = l.idle.PushBack(known)
		}
	case http.StateClosed, http.StateHijacked: // the last state, reported once
		l.forgetLocked(c)
		<-l.served
	}
	l.mu.Unlock()
	if victim != nil {
		_ = victim.Close() // which may call change
	}
}

// victimLocked returns the connection that has been idle longest, an unauthenticated one
// first; nil if each serves a request.
func (l *Limiter) victimLocked() net.Conn {
	var found net.Conn
	for e := l.idle.Front(); e != nil; e = e.Next() {
		c := e.Value.(*conn)
		if !c.authenticated {
			return c.net
		}
		if found == nil {
			found = c.net
		}
	}
	return found
}

func (l *Limiter) forgetLocked(c net.Conn) {
	if known := l.conns[c]; known != nil {
		if known.place != nil {
			l.idle.Remove(known.place)
		}
		delete(l.conns, c)
	}
}

// serve handles a request, unless too many unauthenticated requests are being handled.
func (l *Limiter) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if slices.Contains(l.Free, r.URL.Path) {
		next.ServeHTTP(w, r)
		return
	}
	authenticated := l.Authenticated != nil && l.Authenticated(r)
	c, _ := r.Context().Value(key{}).(net.Conn)
	if !l.begin(c, authenticated) {
		w.Header().Set("Connection", "close")
		w.Header().Set("Retry-After", "10")
		httpauth.Refuse(w, http.StatusServiceUnavailable, "too many requests are being answered")
		return
	}
	if !authenticated {
		defer l.end()
	}
	next.ServeHTTP(w, r)
}

func (l *Limiter) begin(c net.Conn, authenticated bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.conns[c]
	if known != nil {
		known.authenticated = authenticated
	}
	switch {
	case authenticated:
		return true
	case l.active >= l.maxUnauthenticated:
		// net/http keeps a connection that it closes for up to half a second. A refused
		// one must not use its token for as long.
		if known != nil && known.place == nil {
			known.place = l.idle.PushBack(known)
		}
		return false
	}
	l.active++
	return true
}

func (l *Limiter) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active--
}
