package app

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/web/httpauth"
	"github.com/graflow/graflow-sidecar/sidecar/internal/web/page"
)

// pageServer is the page at the HTTP server's address.
type pageServer struct {
	rules   httpauth.Rules
	page    *page.Page
	handler http.Handler
	redis   *redis.Store
}

// newWeb makes the page; where the server listens is not known yet.
func (a *App) newWeb() (*pageServer, error) {
	token, err := a.cfg.HTTP.ReadToken()
	if err != nil {
		return nil, err
	}
	o, err := redis.OptionsOf(a.cfg.Redis)
	if err != nil {
		return nil, err
	}
	o.PoolSize, o.MinIdleConns = pageConns, 0
	o.DialTimeout, o.ReadTimeout, o.WriteTimeout = time.Second, time.Second, time.Second
	st, err := a.open(o)
	if err != nil {
		return nil, err
	}
	return &pageServer{rules: httpauth.Rules{Token: token, Hosts: a.cfg.HTTP.Hosts}, redis: st}, nil
}

// at completes it: what is shown to whom depends on who can reach the address.
func (w *pageServer) at(a *App, loopback bool) {
	w.rules.Loopback = loopback
	w.page = a.newPage(w.redis, w.rules)
	w.handler = w.page.Handler()
}

// details reports whether a request may see more than counts. A stranger's page
// whose name was made to lead here may not, whatever the address.
func (w *pageServer) details(r *http.Request) bool {
	level, ok := w.rules.Level(r)
	return ok && level >= httpauth.Details && w.rules.Answers(r.Host)
}

// admin reports whether a request has the token.
func (w *pageServer) admin(r *http.Request) bool {
	level, ok := w.rules.Level(r)
	return ok && level == httpauth.Admin
}

// ServeHTTP serves the page, once the server's address is known.
func (w *pageServer) ServeHTTP(rw http.ResponseWriter, r *http.Request) { w.handler.ServeHTTP(rw, r) }

// run keeps the page up to date while serve serves, which has to end with its
// context. No look at Redis outlasts ctx: its connections are closed then.
func (w *pageServer) run(ctx context.Context, serve func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(ctx, func() { _ = w.redis.Close() })()
	reader := make(chan error, 1)
	go func() {
		defer stop() // nothing is served whose reader has panicked
		reader <- recoverpanic.Do(func() error { return w.page.Run(ctx) })
	}()
	err := serve(ctx)
	stop()
	return errors.Join(err, <-reader)
}

// noteFailure enters what did not succeed into the page's list of failures. What
// only went back to the queue did not fail.
func (a *App) noteFailure(o *task.Outcome, v report.Verdict) {
	if v == report.Stale || o.Kind == task.Returned || o.Kind == task.Succeeded {
		return
	}
	var took time.Duration
	if !o.StartedAt.IsZero() {
		took = o.EndedAt.Sub(o.StartedAt)
	}
	a.seen.failures.Add(page.Failure{
		At: o.EndedAt, TaskID: o.Task.Info.TaskID, SessionID: o.Task.Info.SessionID, GroupID: o.Task.Info.GroupID,
		Kind: o.Kind.String(), Reason: o.Reason, Message: o.Message, Stderr: o.Stderr,
		Attempt: o.Task.Attempt, Took: took.Milliseconds(),
	})
}
