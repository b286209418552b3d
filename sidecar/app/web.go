package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/access"
	"github.com/graflow/graflow-sidecar/sidecar/internal/page"
	"github.com/graflow/graflow-sidecar/sidecar/internal/safely"
	"github.com/graflow/graflow-sidecar/sidecar/internal/store"
)

// HTTPConfig says where the page is served, and what it takes to do something
// there.
type HTTPConfig struct {
	// Addr is host:port; port 0 is any that is free. Nothing is served if it is
	// empty.
	Addr string
	// Hosts are the names that the address answers to besides its own; on one
	// that is not loopback any name will do if there are none.
	Hosts []string
	// AdminToken allows actions, and everything to be seen on an address that is
	// not loopback. It is read from AdminTokenFile at the start, if that is set.
	AdminToken     string
	AdminTokenFile string
}

func (c HTTPConfig) token() (string, error) {
	if c.AdminTokenFile == "" {
		return c.AdminToken, nil
	}
	b, err := os.ReadFile(c.AdminTokenFile)
	if err != nil {
		return "", &ConfigError{Err: fmt.Errorf("SIDECAR_ADMIN_TOKEN_FILE cannot be read: %w", err)}
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", &ConfigError{Err: errors.New("SIDECAR_ADMIN_TOKEN_FILE is empty: put the token in it, or leave the variable out for a page that only shows")}
	}
	return token, nil
}

// web is the HTTP server with the page.
type web struct {
	listener net.Listener
	server   *http.Server
	page     *page.Page
	redis    *store.Store
}

// serve listens, so that a port that is taken is known at once. It returns nil
// where nothing is to be served.
func (a *App) serve(ctx context.Context) (*web, error) {
	c := a.cfg.HTTP
	if c.Addr == "" || a.hooks.backend != nil {
		return nil, nil
	}
	token, err := c.token()
	if err != nil {
		return nil, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.Addr)
	if err != nil {
		return nil, &ConfigError{Err: fmt.Errorf("SIDECAR_HTTP_ADDR: %w", err)}
	}
	o, err := a.cfg.Redis.clientOptions()
	if err == nil {
		o.PoolSize, o.MinIdleConns = pageConns, 0
		o.DialTimeout, o.ReadTimeout, o.WriteTimeout = time.Second, time.Second, time.Second
	}
	var st *store.Store
	if err == nil {
		st, err = a.open(o)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	address, _ := l.Addr().(*net.TCPAddr) // of a TCP listener
	rules := access.Rules{Token: token, Loopback: address.IP.IsLoopback(), Hosts: c.Hosts}
	p := a.newPage(st, rules)
	return &web{
		listener: l, page: p, redis: st,
		server: &http.Server{
			Handler: p.Handler(), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
			IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
			ErrorLog: slog.NewLogLogger(a.log.Handler(), slog.LevelDebug),
		},
	}, nil
}

// reserveAfterWeb is what the page leaves of a stop's budget.
const reserveAfterWeb = time.Second

// serving puts the HTTP server before the connections to Redis in the order of the
// stop: until then it shows how far the stop is.
func (a *App) serving(list []actor) []actor {
	if a.web == nil {
		return list
	}
	at := slices.IndexFunc(list, func(x actor) bool { return x.name == "redis" })
	return slices.Insert(list, at, actor{name: "admin", reserve: reserveAfterWeb, run: a.web.run})
}

// run serves until soft ends. Streams end at once then, and with hard whatever is
// left.
func (w *web) run(soft, hard context.Context) error {
	looking, stop := context.WithCancel(soft)
	defer stop()
	reader, served := make(chan error, 1), make(chan error, 1)
	go func() { reader <- safely.Do(func() error { return w.page.Run(looking) }) }()
	go func() { served <- w.server.Serve(w.listener) }()
	var err error
	select {
	case <-soft.Done():
	case err = <-reader: // a panic
		reader <- nil
	case err = <-served:
		served <- http.ErrServerClosed
	}
	stop()
	// Calls that wait for Redis end with its connections.
	defer context.AfterFunc(hard, func() { _ = w.server.Close() })()
	_ = w.redis.Close()
	if w.server.Shutdown(hard) != nil {
		_ = w.server.Close()
	}
	err = errors.Join(err, <-reader)
	if e := <-served; !errors.Is(e, http.ErrServerClosed) {
		err = errors.Join(err, e)
	}
	return err
}

// HTTPAddr is the address that the page is served on, empty if none is.
func (a *App) HTTPAddr() string {
	if a.web == nil {
		return ""
	}
	return a.web.listener.Addr().String()
}
