// Package web answers over HTTP how a sidecar is: /livez, /readyz and /startupz
// for probes, /status and /metrics for numbers. It only reads; Extra adds what else
// the address serves.
package web

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/connlimit"
	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// Options are what a server needs.
type Options struct {
	// Health reads the state. It is called on a goroutine of its own, one at a time: a
	// lock that is never released fails the probes instead of holding them up.
	Health func() observe.Health
	Self   func() fleet.Run
	// Details says whether a request may see task ids and the like, and not only
	// counts; nil allows it to every request.
	Details func(*http.Request) bool
	Metrics http.Handler
	// Extra, if set, serves every other path.
	Extra http.Handler
	// Page, if set, does, and says what is shown and which requests are trusted.
	Page *Page
	// Trusted reports whether a request may have one of the places that are kept
	// where there are many connections; nil trusts none.
	Trusted func(*http.Request) bool
	Log     *slog.Logger
}

// Server listens from New on and answers from Serve on. Its methods may be called
// concurrently.
type Server struct {
	listener net.Listener
	http     *http.Server
	page     *Page // nil for none
}

// Listen makes the server of a sidecar at the address of its configuration, so that an
// address that is taken is known at the start; nil without an address. away reports
// whether Redis is known to be gone. Without withPage there is no page. The error is a
// *config.Error.
func Listen(cfg *config.Config, obs *observe.Observability, away func() bool, withPage bool) (*Server, error) {
	if cfg.HTTP.Addr == "" {
		return nil, nil
	}
	o := Options{Health: obs.Health, Self: obs.Self, Metrics: obs.Metrics().Handler(), Log: cfg.Log}
	if withPage {
		var err error
		if o.Page, err = NewPage(PageOptions{Config: cfg, Away: away, Self: obs.Self}); err != nil {
			return nil, err
		}
	}
	s, err := New(cfg.HTTP.Addr, o)
	if err != nil {
		return nil, &config.Error{Err: fmt.Errorf("SIDECAR_HTTP_ADDR: %w", err)}
	}
	obs.ServeAt(s.URL())
	cfg.Log.Info("http server listens", "url", s.URL())
	return s, nil
}

// New listens at an address. An error says that it cannot; the page is closed then.
func New(addr string, o Options) (*Server, error) {
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		if o.Page != nil {
			o.Page.Close()
		}
		return nil, err
	}
	if o.Page != nil {
		o.Details, o.Extra, o.Trusted = o.Page.Details, o.Page, o.Page.Admin
	}
	read, look := o.Health, &prober{}
	o.Health = func() observe.Health { return look.health(read) }
	s := &Server{
		listener: listener, page: o.Page,
		http: &http.Server{
			Handler: o.handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
			WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: 16 << 10,
			ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		},
	}
	limiter := connlimit.New(connlimit.Default())
	limiter.Authenticated, limiter.Free = o.Trusted, probes
	limiter.Guard(s.http)
	s.listener = limiter.Listener(listener)
	if s.page != nil {
		s.page.bind(s.Loopback())
	}
	return s, nil
}

const (
	// writeTimeout bounds the writing of an answer: a client that does not read it
	// loses its connection. A stream sets one of its own before each write.
	writeTimeout = 15 * time.Second
	// idleTimeout is how long a connection is kept for the next request, where
	// there is no other that wants its place.
	idleTimeout = 30 * time.Second
)

// statusTimeout bounds the reading of the state, which takes locks.
const statusTimeout = 5 * time.Second

// probes are answered however many other requests are.
var probes = []string{"/livez", "/readyz", "/startupz"}

// URL is where the server is. One that listens on all addresses is at this
// machine's loopback one, too.
func (s *Server) URL() string { return "http://" + s.listener.Addr().String() }

// Loopback says that only this machine reaches the server.
func (s *Server) Loopback() bool {
	addr, ok := s.listener.Addr().(*net.TCPAddr)
	return ok && addr.IP.IsLoopback()
}

// Ended enters an outcome that is no success into the page's list of failures. stale
// says that the delivery was another sidecar's by then.
func (s *Server) Ended(o *task.Outcome, stale bool) {
	if s.page != nil {
		s.page.Ended(o, stale)
	}
}

// Serve answers until ctx ends, and returns when no request is being answered any
// more: what takes long is cut off then.
func (s *Server) Serve(ctx context.Context) error {
	if s.page != nil {
		return s.page.run(ctx, s.serve)
	}
	return s.serve(ctx)
}

func (s *Server) serve(ctx context.Context) error {
	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	ended := make(chan error, 1)
	go func() { ended <- s.http.Serve(s.listener) }()
	select {
	case err := <-ended:
		return fmt.Errorf("the HTTP server has ended: %w", err)
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 200*time.Millisecond)
	defer cancel()
	if s.http.Shutdown(last) != nil {
		_ = s.http.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Close is for a server that never serves.
func (s *Server) Close() error { return s.listener.Close() }

func (o Options) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		h := o.Health()
		probe(w, h.Alive, h.Reasons)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		h := o.Health()
		probe(w, h.Ready, h.Reasons)
	})
	mux.HandleFunc("GET /startupz", func(w http.ResponseWriter, _ *http.Request) {
		h := o.Health()
		probe(w, h.Started, h.Reasons)
	})
	status := func(w http.ResponseWriter, r *http.Request) {
		self := o.Self()
		if o.Details != nil && !o.Details(r) {
			self = Counts(self)
		}
		h := o.Health()
		answer(w, http.StatusOK, struct {
			fleet.Run
			Ready   bool     `json:"ready"`
			Reasons []string `json:"reasons,omitempty"`
		}{self, h.Ready, h.Reasons})
	}
	mux.Handle("GET /status", http.TimeoutHandler(http.HandlerFunc(status), statusTimeout, `{"error":"the state cannot be read"}`))
	mux.Handle("GET /metrics", o.Metrics)
	if o.Extra != nil {
		mux.Handle("/", o.Extra)
	}
	return mux
}

// Counts leaves out what a record says: a viewer that may not see records sees how
// many there are.
func Counts(r fleet.Run) fleet.Run {
	children := make([]fleet.Child, len(r.Children))
	for i, c := range r.Children {
		tasks := make([]fleet.Task, len(c.Tasks))
		for j, t := range c.Tasks {
			tasks[j] = fleet.Task{Delivery: t.Delivery, Attempt: t.Attempt, Since: t.Since, Waiting: t.Waiting, Progress: t.Progress}
		}
		c.Tasks = tasks
		children[i] = c
	}
	r.Children = children
	return r
}

type verdict struct {
	OK      bool     `json:"ok"`
	Reasons []string `json:"reasons,omitempty"`
}

func probe(w http.ResponseWriter, ok bool, reasons []string) {
	if ok {
		answer(w, http.StatusOK, verdict{OK: true})
		return
	}
	answer(w, http.StatusServiceUnavailable, verdict{Reasons: reasons})
}

func answer(w http.ResponseWriter, status int, v any) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client may be gone
}
