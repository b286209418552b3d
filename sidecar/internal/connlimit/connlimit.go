// Package connlimit bounds the connections of an HTTP server, so that clients that
// hold connections open cost neither the descriptors nor the memory of the rest of
// the process.
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
	// most is how many connections there are at most, and share which part of the
	// descriptors that the process may open: the rest is for Redis and the workers.
	most  = 224
	share = 4
	// keptShare is which part of the connections is kept for trusted requests.
	keptShare = 7
	// spare is how many connections, beside those that are open, may be served at the
	// same time: closed ones whose goroutines have not ended yet, which net/http lets
	// linger for half a second after an answer.
	spare = 32
)

// Files is how many descriptors the process may open.
func Files() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur > 1<<20 {
		return 1 << 20
	}
	return int(limit.Cur)
}

// Default is how many connections one server may have.
func Default() int { return max(min(most, Files()/share), 8) }

// Limiter bounds the connections of one server. A new connection beyond the bound
// takes the place of the one that has been without a request for longest: a probe
// always gets through. Its methods may be called concurrently.
type Limiter struct {
	total  int
	others int // requests that are not trusted, at the same time

	// Trusted reports whether a request may have one of the places that are kept;
	// nil trusts none.
	Trusted func(*http.Request) bool
	// Free are paths that are always served: of handlers that hold no connection.
	Free []string

	served chan struct{} // a place for each connection that a goroutine serves

	mu     sync.Mutex
	conns  map[net.Conn]*conn
	quiet  list.List // of *conn: without a request, the longest first
	active int       // requests that are not trusted
}

// conn is one connection. Its fields are under Limiter.mu.
type conn struct {
	net     net.Conn
	place   *list.Element // in quiet; nil while it has a request
	trusted bool          // its last request was
}

// New returns a limiter for at most total connections.
func New(total int) *Limiter {
	return &Limiter{
		total: total, others: total - max(total/keptShare, 1), conns: make(map[net.Conn]*conn),
		served: make(chan struct{}, total+spare),
	}
}

type key struct{}

// Guard makes a server, which serves nothing yet, keep to the limit. It is to serve
// on a [Limiter.Listener].
func (l *Limiter) Guard(s *http.Server) {
	next := s.Handler
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { l.serve(w, r, next) })
	s.ConnState = l.change
	s.ConnContext = func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, key{}, c) }
}

// Listener returns inner for the guarded server. It accepts no more connections than
// can be served: each one costs a goroutine and two buffers until net/http is done with
// it, and a flood closes them faster than a busy machine ends their goroutines.
func (l *Limiter) Listener(inner net.Listener) net.Listener {
	return &listener{Listener: inner, served: l.served, closed: make(chan struct{})}
}

type listener struct {
	net.Listener
	served chan struct{}
	once   sync.Once
	closed chan struct{}
}

// Accept waits for a place first. It waits only for connections that are closed: a
// newcomer for which none of the open ones makes room is closed itself.
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

// Open is how many connections there are.
func (l *Limiter) Open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// change is told of every connection's state, of a new one before it is served.
func (l *Limiter) change(c net.Conn, state http.ConnState) {
	l.mu.Lock()
	var victim net.Conn
	switch state {
	case http.StateNew:
		if len(l.conns) >= l.total {
			if victim = l.victimLocked(); victim == nil {
				victim = c // every other one is being answered
				break
			}
			l.forgetLocked(victim)
		}
		known := &conn{net: c}
		known.place = l.quiet.PushBack(known)
		l.conns[c] = known
	case http.StateActive:
		if known := l.conns[c]; known != nil && known.place != nil {
			l.quiet.Remove(known.place)
			known.place = nil
		}
	case http.StateIdle:
		if known := l.conns[c]; known != nil && known.place == nil {
			known.place = l.quiet.PushBack(known)
		}
	case http.StateClosed, http.StateHijacked: // one of them, once, and last
		l.forgetLocked(c)
		<-l.served
	}
	l.mu.Unlock()
	if victim != nil {
		_ = victim.Close() // which may tell us that it is closed
	}
}

// victimLocked is the connection that has been quiet for longest, one that was not
// trusted first; nil if each has a request.
func (l *Limiter) victimLocked() net.Conn {
	var found net.Conn
	for e := l.quiet.Front(); e != nil; e = e.Next() {
		c := e.Value.(*conn)
		if !c.trusted {
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
			l.quiet.Remove(known.place)
		}
		delete(l.conns, c)
	}
}

// serve answers a request, unless too many are being answered that are not
// trusted.
func (l *Limiter) serve(w http.ResponseWriter, r *http.Request, next http.Handler) {
	if slices.Contains(l.Free, r.URL.Path) {
		next.ServeHTTP(w, r)
		return
	}
	trusted := l.Trusted != nil && l.Trusted(r)
	c, _ := r.Context().Value(key{}).(net.Conn)
	if !l.begin(c, trusted) {
		w.Header().Set("Connection", "close")
		w.Header().Set("Retry-After", "10")
		httpauth.Refuse(w, http.StatusServiceUnavailable, "too many requests are being answered")
		return
	}
	if !trusted {
		defer l.end()
	}
	next.ServeHTTP(w, r)
}

func (l *Limiter) begin(c net.Conn, trusted bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	known := l.conns[c]
	if known != nil {
		known.trusted = trusted
	}
	switch {
	case trusted:
		return true
	case l.active >= l.others:
		// net/http keeps a connection that it closes for up to half a second: a
		// refused one must not hold a place for as long.
		if known != nil && known.place == nil {
			known.place = l.quiet.PushBack(known)
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
