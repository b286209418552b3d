package page

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/web/httpauth"
)

const (
	actionPatience = 5 * time.Second
	maxBody        = 16 << 10
)

// order of an action: each takes what it needs.
type request struct {
	ID    string `json:"id"`
	Force bool   `json:"force"`
	Run   string `json:"run"`
	Slot  int    `json:"slot"`

	by string // for the log and the pause's note
}

// outcome is what an action answers.
type outcome struct {
	status int
	Result string `json:"result,omitempty"`
	Error  string `json:"error,omitempty"`
}

func done(result string) (outcome, error) { return outcome{status: http.StatusOK, Result: result}, nil }

func refusal(status int, result, why string) (outcome, error) {
	return outcome{status: status, Result: result, Error: why}, nil
}

// action admits a request that changes something: from this page or no page at
// all, with the token, and as JSON, which no form of another site can send.
func action(p *Page, do func(context.Context, request) (outcome, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := p.cross.Check(r); err != nil {
			httpauth.Refuse(w, http.StatusForbidden, "only this page itself may do that")
			return
		}
		level, ok := p.level(w, r)
		switch {
		case !ok:
			return
		case p.o.Access.Token == "":
			httpauth.Refuse(w, http.StatusForbidden, "read-only: SIDECAR_ADMIN_TOKEN is not set")
			return
		case level < httpauth.Admin:
			httpauth.Unauthorized(w, "that needs the admin token")
			return
		}
		if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
			httpauth.Refuse(w, http.StatusUnsupportedMediaType, "the body must be application/json")
			return
		}
		req, err := body(w, r)
		if err != nil {
			httpauth.Refuse(w, http.StatusBadRequest, "the body is not what is expected: "+err.Error())
			return
		}
		req.by = "page, " + r.RemoteAddr
		ctx, cancel := context.WithTimeout(r.Context(), actionPatience)
		defer cancel()
		out, err := do(ctx, req)
		if err != nil {
			p.o.Log.Warn("action from the page failed", "action", r.URL.Path, "remote", r.RemoteAddr, "error", err)
			httpauth.Refuse(w, http.StatusServiceUnavailable, "Redis: "+p.o.Why(err))
			return
		}
		p.o.Log.Info("action from the page", "action", r.URL.Path, "remote", r.RemoteAddr,
			"run", req.Run, "delivery", req.ID, "force", req.Force, "result", out.Result)
		answer(w, out.status, out)
	}
}

func body(w http.ResponseWriter, r *http.Request) (request, error) {
	var req request
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(&req); err != nil {
		return req, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return req, errors.New("something follows the object")
	}
	return req, nil
}

func (p *Page) requeue(ctx context.Context, req request) (outcome, error) {
	got, err := p.o.Actions.Requeue(ctx, req.ID, req.Force)
	switch {
	case err != nil:
		return outcome{}, err
	case got == fleet.RequeueGone:
		return refusal(http.StatusNotFound, string(got), "there is no such dead letter (any more)")
	case got == fleet.RequeueGroupOver:
		return refusal(http.StatusConflict, string(got), "its group is over: no workflow waits for it any more")
	case got == fleet.RequeueCounted:
		return refusal(http.StatusConflict, string(got), "its failure was counted at a barrier that is still open: a result now would count for no group")
	default:
		return done(string(got))
	}
}

func (p *Page) drop(ctx context.Context, req request) (outcome, error) {
	there, err := p.o.Actions.Drop(ctx, req.ID)
	switch {
	case err != nil:
		return outcome{}, err
	case !there:
		return refusal(http.StatusNotFound, string(fleet.RequeueGone), "there is no such dead letter (any more)")
	default:
		return done("dropped")
	}
}

func (p *Page) pause(ctx context.Context, req request) (outcome, error) {
	return p.to(ctx, req.Run, true, "paused", func() error { return p.o.Actions.Pause(ctx, req.Run, req.by) })
}

// resume is also for a run that is gone: its pause is all there is of it.
func (p *Page) resume(ctx context.Context, req request) (outcome, error) {
	if req.Run == "" {
		return refusal(http.StatusBadRequest, "", "run is missing")
	}
	if err := p.o.Actions.Unpause(ctx, req.Run); err != nil {
		return outcome{}, err
	}
	return done("resumed")
}

func (p *Page) drain(ctx context.Context, req request) (outcome, error) {
	return p.to(ctx, req.Run, false, "draining", func() error {
		return p.o.Actions.Order(ctx, req.Run, fleet.Command{Action: fleet.Drain, By: req.by})
	})
}

func (p *Page) restart(ctx context.Context, req request) (outcome, error) {
	return p.to(ctx, req.Run, false, "restarting", func() error {
		return p.o.Actions.Order(ctx, req.Run, fleet.Command{Action: fleet.RestartChild, Slot: req.Slot, By: req.by})
	})
}

// to does something to a run that is there: an order to one that is not would be
// answered as if it had been heard.
func (p *Page) to(ctx context.Context, run string, all bool, result string, do func() error) (outcome, error) {
	if run == "" {
		return refusal(http.StatusBadRequest, "", "run is missing")
	}
	if run != fleet.AllRuns || !all {
		there, err := p.there(ctx, run)
		if err != nil {
			return outcome{}, err
		}
		if !there {
			return refusal(http.StatusNotFound, "no-such-run", "there is no such run (any more)")
		}
	}
	if err := do(); err != nil {
		return outcome{}, err
	}
	return done(result)
}

func (p *Page) there(ctx context.Context, run string) (bool, error) {
	list, err := p.o.Source.Fleet(ctx)
	return slices.ContainsFunc(list, func(r fleet.Run) bool { return r.ID == run }), err
}
