package web

import (
	"context"
	"errors"
	"log/slog"
	"net/http"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/web/httpauth"
	"github.com/graflow/graflow-sidecar/sidecar/internal/web/page"
)

// PageOptions are what a [Page] needs.
type PageOptions struct {
	// Store is the page's own connection to Redis; Run closes it.
	Store *redis.Store
	// Away reports whether Redis is known to be gone.
	Away func() bool
	Self func() fleet.Run
	// Failures are the tasks that did not succeed, the latest ones.
	Failures *page.Failures
	// Token allows actions; Hosts are the names that the address answers to.
	Token           string
	Hosts           []string
	Prefix, Version string
	Log             *slog.Logger
}

// Page is the page at the server's address, and what it takes to see and do something.
type Page struct {
	rules   httpauth.Rules
	page    *page.Page
	handler http.Handler
	o       PageOptions
}

// NewPage makes the page; where the server listens is not known yet, see Bind.
func NewPage(o PageOptions) *Page {
	return &Page{rules: httpauth.Rules{Token: o.Token, Hosts: o.Hosts}, o: o}
}

// Bind completes the page: what is shown to whom depends on who can reach the address.
func (w *Page) Bind(loopback bool) {
	w.rules.Loopback = loopback
	r := &pageRedis{st: w.o.Store, away: w.o.Away, self: w.o.Self}
	w.page = page.New(page.Options{
		Access: w.rules, Source: r, Actions: r, Failures: w.o.Failures, Log: w.o.Log,
		Prefix: w.o.Prefix, Version: w.o.Version,
		Why: func(err error) string {
			if name := redis.ClassName(err); name != "other" && name != "" {
				return name
			}
			return err.Error()
		},
	})
	w.handler = w.page.Handler()
}

// Close closes the page's connection to Redis. Run does it, too.
func (w *Page) Close() { _ = w.o.Store.Close() }

// Details reports whether a request may see more than counts. A stranger's page
// whose name was made to lead here may not, whatever the address.
func (w *Page) Details(r *http.Request) bool {
	level, ok := w.rules.Level(r)
	return ok && level >= httpauth.Details && w.rules.Answers(r.Host)
}

// Admin reports whether a request has the token.
func (w *Page) Admin(r *http.Request) bool {
	level, ok := w.rules.Level(r)
	return ok && level == httpauth.Admin
}

// ServeHTTP serves the page, once the server's address is known.
func (w *Page) ServeHTTP(rw http.ResponseWriter, r *http.Request) { w.handler.ServeHTTP(rw, r) }

// Run keeps the page up to date while serve serves, which has to end with its
// context. No look at Redis outlasts ctx: its connections are closed then.
func (w *Page) Run(ctx context.Context, serve func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(ctx, func() { _ = w.o.Store.Close() })()
	reader := make(chan error, 1)
	go func() {
		defer stop() // nothing is served whose reader has panicked
		reader <- recoverpanic.Do(func() error { return w.page.Run(ctx) })
	}()
	err := serve(ctx)
	stop()
	return errors.Join(err, <-reader)
}
