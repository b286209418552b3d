// Package page is the web page of a sidecar: what stands in the queue, which workers
// run what, what failed and what was given up, live, and the few things that
// a person can do about it. It is one page that the binary carries, with no
// outside resource, and a stream of server-sent events; see docs/monitoring.md.
//
// With any number of viewers, Redis is asked once a second; without a viewer, not at
// all.
package page

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/web/httpauth"
)

// Source is what there is to see. Its methods may be called concurrently and
// end with their context; all but Self ask Redis.
type Source interface {
	// Self is this run, from memory.
	Self() fleet.Run
	Overview(ctx context.Context) (fleet.Queue, error)
	Fleet(ctx context.Context) ([]fleet.Run, error)
	// DeadLetters are the newest, at most limit.
	DeadLetters(ctx context.Context, limit int) ([]fleet.DeadLetter, error)
	// DeadLetter is one with all that is kept of it; found is false where it is
	// gone.
	DeadLetter(ctx context.Context, id string) (letter fleet.DeadLetter, found bool, err error)
}

// Actions are what can be done. They may be called concurrently.
type Actions interface {
	Requeue(ctx context.Context, id string, force bool) (fleet.Requeued, error)
	Drop(ctx context.Context, id string) (bool, error)
	// Pause stops the claims of a run, or of all with [fleet.AllRuns].
	Pause(ctx context.Context, run, by string) error
	Unpause(ctx context.Context, run string) error
	Order(ctx context.Context, run string, order fleet.Command) error
}

// Options are what a page needs. All but Viewers, Kept, Interval and Heartbeat are
// required.
type Options struct {
	Access   httpauth.Rules
	Source   Source
	Actions  Actions
	Failures *Failures
	// Why names what is wrong with Redis in a word or two, for people.
	Why func(error) string
	Log *slog.Logger
	// Prefix and Version are shown.
	Prefix, Version string
	// Viewers is how many may look at the same time without the token, 32 if 0,
	// and Kept how many more with it, 8 if 0.
	Viewers, Kept int
	// Interval is between two looks at Redis while there is a viewer; 1 s if 0.
	Interval time.Duration
	// Heartbeat is the longest silence of a stream; 10 s if 0.
	Heartbeat time.Duration
}

// Page serves the page and its streams. Its methods may be called concurrently.
type Page struct {
	o     Options
	files map[string]file
	cross *http.CrossOriginProtection
	board *board

	wake chan struct{} // there is reason to look at Redis
	over chan struct{} // closed when Run ends: no stream outlives it

	mu       sync.Mutex
	viewers  int
	refusals time.Time // when a wrong token was last logged
}

// New returns a page. Run keeps it up to date.
func New(o Options) *Page {
	if o.Viewers == 0 {
		o.Viewers = 32
	}
	if o.Kept == 0 {
		o.Kept = 8
	}
	if o.Interval == 0 {
		o.Interval = time.Second
	}
	if o.Heartbeat == 0 {
		o.Heartbeat = 10 * time.Second
	}
	return &Page{
		o: o, files: files(), cross: http.NewCrossOriginProtection(), board: newBoard(),
		wake: make(chan struct{}, 1), over: make(chan struct{}),
	}
}

// Run looks at Redis while the page has viewers. When ctx ends so do all
// streams, at once: a browser that is left open never holds up a stop. Call it
// once.
func (p *Page) Run(ctx context.Context) error {
	defer close(p.over)
	reader := &reader{page: p}
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		// Not more often than once an interval, however quickly viewers come
		// and go.
		select {
		case <-ctx.Done():
			return nil
		case <-rest.C:
		}
		if !p.watched() {
			p.board.clear()
			reader.letter.at = time.Time{} // for the next viewer
			select {
			case <-ctx.Done():
				return nil
			case <-p.wake:
			}
		}
		rest.Reset(p.o.Interval)
		reader.read(ctx)
	}
}

// Handler serves the page at / and what belongs to it at /page/ and /api/.
func (p *Page) Handler() http.Handler {
	mux := http.NewServeMux()
	for name := range p.files {
		mux.HandleFunc("GET "+name, p.static)
	}
	mux.HandleFunc("GET /api/events", p.events)
	mux.HandleFunc("GET /api/dead", p.letter)
	mux.HandleFunc("POST /api/requeue", action(p, p.requeue))
	mux.HandleFunc("POST /api/drop", action(p, p.drop))
	mux.HandleFunc("POST /api/pause", action(p, p.pause))
	mux.HandleFunc("POST /api/resume", action(p, p.resume))
	mux.HandleFunc("POST /api/drain", action(p, p.drain))
	mux.HandleFunc("POST /api/restart", action(p, p.restart))
	return p.o.Access.Guard(secure(mux))
}

// admit counts a viewer in; leave counts it out. Viewers without the token never
// have the places that are kept for it.
func (p *Page) admit(level httpauth.Level) (leave func(), ok bool) {
	most := p.o.Viewers
	if level == httpauth.Admin {
		most += p.o.Kept
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.viewers >= most {
		return nil, false
	}
	p.viewers++
	p.poke()
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.viewers--
	}, true
}

func (p *Page) watched() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.viewers > 0
}

// poke wakes the reader if it rests for want of viewers.
func (p *Page) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// level is what a request may see. A wrong token has been answered where ok is
// false.
func (p *Page) level(w http.ResponseWriter, r *http.Request) (level httpauth.Level, ok bool) {
	level, ok = p.o.Access.Level(r)
	if !ok {
		p.refused(r)
		httpauth.Unauthorized(w, "wrong token")
	}
	return level, ok
}

// refusalPause is between two log lines of wrong tokens: guesses must not fill the
// log.
const refusalPause = 10 * time.Second

func (p *Page) refused(r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.refusals) > refusalPause {
		p.refusals = now
		p.o.Log.Warn("wrong admin token refused", "remote", r.RemoteAddr, "path", r.URL.Path)
	}
}
