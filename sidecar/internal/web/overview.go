package web

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/web/httpauth"
	"github.com/graflow/graflow-sidecar/sidecar/internal/web/page"
)

// PageOptions are what a [Page] needs.
type PageOptions struct {
	Config *config.Config
	// Away reports whether Redis is known to be gone.
	Away func() bool
	Self func() fleet.Run
}

// Page is the page at the server's address, and what it takes to see and do something.
type Page struct {
	rules    httpauth.Rules
	store    *redis.Store // the page's own connections
	page     *page.Page
	handler  http.Handler
	failures page.Failures
	o        PageOptions
}

// NewPage makes the page of a sidecar, for a [Server] to serve. The error is a
// *config.Error.
func NewPage(o PageOptions) (*Page, error) {
	token, err := o.Config.HTTP.ReadToken()
	if err != nil {
		return nil, err
	}
	c, err := redis.OptionsOf(o.Config.Redis)
	if err != nil {
		return nil, err
	}
	c.PoolSize, c.MinIdleConns = pageConns, 0
	c.DialTimeout, c.ReadTimeout, c.WriteTimeout = time.Second, time.Second, time.Second
	store, err := redis.Open(o.Config, c)
	if err != nil {
		return nil, err
	}
	return &Page{rules: httpauth.Rules{Token: token, Hosts: o.Config.HTTP.Hosts}, store: store, o: o}, nil
}

// bind completes the page: what a viewer sees depends on where the address can be
// reached from.
func (w *Page) bind(loopback bool) {
	w.rules.Loopback = loopback
	r := &pageRedis{st: w.store, away: w.o.Away, self: w.o.Self}
	w.page = page.New(page.Options{
		Access: w.rules, Source: r, Actions: r, Failures: &w.failures, Log: w.o.Config.Log,
		Prefix: w.o.Config.KeyPrefix, Version: w.o.Config.Version,
		Why: func(err error) string {
			if name := redis.ClassName(err); name != "other" && name != "" {
				return name
			}
			return err.Error()
		},
	})
	w.handler = w.page.Handler()
}

// Close closes the page's connections to Redis. It is for a page that no server serves.
func (w *Page) Close() { _ = w.store.Close() }

// Ended enters an outcome that is no success into the list of failures. What only went
// back to the queue did not fail, and neither did what was another sidecar's by then.
func (w *Page) Ended(o *task.Outcome, stale bool) {
	if stale || o.Conclusion == task.Returned || o.Conclusion == task.Succeeded {
		return
	}
	var took time.Duration
	if !o.StartedAt.IsZero() {
		took = o.EndedAt.Sub(o.StartedAt)
	}
	w.failures.Add(page.Failure{
		At: o.EndedAt, TaskID: o.Task.Info.TaskID, SessionID: o.Task.Info.SessionID, GroupID: o.Task.Info.GroupID,
		Kind: o.Conclusion.String(), Reason: o.Reason, Message: o.Message, Stderr: o.Stderr,
		Attempt: o.Task.Attempt, Took: took.Milliseconds(),
	})
}

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

// run keeps the page up to date while serve serves, which has to end with its
// context. No look at Redis outlasts ctx: its connections are closed then.
func (w *Page) run(ctx context.Context, serve func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(ctx, func() { _ = w.store.Close() })()
	reader := make(chan error, 1)
	go func() {
		defer stop() // nothing is served whose reader has panicked
		reader <- recoverpanic.Do(func() error { return w.page.Run(ctx) })
	}()
	err := serve(ctx)
	stop()
	return errors.Join(err, <-reader)
}
