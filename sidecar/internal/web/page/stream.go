package page

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/web/httpauth"
)

// slowness is how long one viewer may take to read what it is sent: then it is
// dropped, and its browser comes back for what is new.
const slowness = 5 * time.Second

// hello is the first event of a stream.
type hello struct {
	At       int64   `json:"at"`
	Version  string  `json:"version"`
	Prefix   string  `json:"prefix"`
	Level    string  `json:"level"`
	Writable bool    `json:"writable"` // there is a token that allows actions
	History  []point `json:"history"`
}

// failed is the event with the failures since the last one.
type failed struct {
	Add []Failure `json:"add"`
}

// events streams what the viewer may see. The browser's EventSource cannot send
// an Authorization header, so the page reads the stream with fetch; anything
// that understands text/event-stream can read it.
func (p *Page) events(w http.ResponseWriter, r *http.Request) {
	level, ok := p.reading(w, r)
	if !ok {
		return
	}
	select {
	case <-p.over:
		httpauth.Refuse(w, http.StatusServiceUnavailable, "the sidecar stops")
		return
	default:
	}
	leave, ok := p.admit(level)
	if !ok {
		w.Header().Set("Retry-After", "10")
		httpauth.Refuse(w, http.StatusServiceUnavailable, fmt.Sprintf("%d viewers look at this page already", p.o.Viewers))
		return
	}
	defer leave()
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back otherwise
	s := stream{w: w, rc: http.NewResponseController(w)}
	s.json("hello", hello{
		At: time.Now().UnixMilli(), Version: p.o.Version, Prefix: p.o.Prefix, Level: level.String(),
		Writable: p.o.Access.Token != "", History: p.board.points(),
	})
	p.follow(&s, r, level >= httpauth.Details)
}

// follow sends what is new until the viewer leaves, is too slow, or all ends.
func (p *Page) follow(s *stream, r *http.Request, private bool) {
	beat := time.NewTicker(p.o.Heartbeat)
	defer beat.Stop()
	var version uint64
	var failure int64
	for {
		news, newest, changed := p.board.since(version, private)
		version = newest
		for _, e := range news {
			s.send(e)
		}
		if private {
			if list := p.o.Failures.since(failure); len(list) > 0 {
				failure = list[len(list)-1].Seq
				s.json("failures", failed{list})
			}
		}
		if s.flush() != nil {
			return
		}
		select {
		case <-changed:
		case <-beat.C:
			s.write(": still here\n\n")
		case <-r.Context().Done():
			return
		case <-p.over:
			return
		}
	}
}

// stream writes events; after the first error it writes nothing more.
type stream struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	err error
}

func (s *stream) json(name string, content any) {
	body, err := json.Marshal(content)
	if err != nil {
		s.err = err
		return
	}
	s.send(event{name, body})
}

// send writes one event. JSON has no line breaks, so that the body is one line.
func (s *stream) send(e event) { s.write("event: %s\ndata: %s\n\n", e.name, e.body) }

func (s *stream) write(format string, args ...any) {
	if s.err == nil {
		// Before every write: what is long leaves in many of them.
		_ = s.rc.SetWriteDeadline(time.Now().Add(slowness)) // an http.Server has one
		_, s.err = fmt.Fprintf(s.w, format, args...)
	}
}

func (s *stream) flush() error {
	if s.err == nil {
		s.err = s.rc.Flush()
	}
	return s.err
}

// reading is what a request for data may see; one that another site's page makes
// is refused, since such pages could keep all streams busy.
func (p *Page) reading(w http.ResponseWriter, r *http.Request) (httpauth.Level, bool) {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "cross-site", "same-site":
		httpauth.Refuse(w, http.StatusForbidden, "only this page itself may ask")
		return httpauth.Counts, false
	}
	return p.level(w, r)
}
