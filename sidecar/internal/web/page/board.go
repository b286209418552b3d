package page

import (
	"encoding/json"
	"sync"
)

// board holds the newest state of each part of the page, for all viewers. A
// viewer takes what changed since it last looked: a slow one skips states and
// delays no other.
type board struct {
	mu      sync.Mutex
	version uint64
	parts   map[string]part
	history *history
	changed chan struct{} // closed with the next change
}

// part is one event of the stream.
type part struct {
	version uint64
	body    []byte // JSON, in one line
	private bool   // not for viewers that see counts only
}

func newBoard() *board {
	return &board{parts: map[string]part{}, history: &history{}, changed: make(chan struct{})}
}

// put replaces a part. It is none if it says what the one before said.
func (b *board) put(name string, private bool, content any) {
	body, err := json.Marshal(content)
	if err != nil {
		return // nothing here can fail to become JSON but a NaN, and none is computed
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if old, there := b.parts[name]; there && string(old.body) == string(body) {
		return
	}
	b.version++
	b.parts[name] = part{version: b.version, body: body, private: private}
}

// publish tells the viewers that there is something new.
func (b *board) publish() {
	b.mu.Lock()
	defer b.mu.Unlock()
	close(b.changed)
	b.changed = make(chan struct{})
}

// clear forgets what is no longer kept up to date, but not the history.
func (b *board) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.parts)
}

// add enters a point into the history.
func (b *board) add(p point) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.history.add(p)
}

func (b *board) points() []point {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.history.all()
}

// order is that of the parts in a stream.
var order = []string{"now", "fleet", "dead"}

// since gives what is newer than version, the version that this is, and what is
// closed when there is more.
func (b *board) since(version uint64, private bool) (events []event, newest uint64, changed <-chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range order {
		if p, there := b.parts[name]; there && p.version > version && (private || !p.private) {
			events = append(events, event{name, p.body})
		}
	}
	return events, b.version, b.changed
}

// event is one of a stream.
type event struct {
	name string
	body []byte
}

// point is one second of the charts. A value that is not known is null: Redis was
// away, or there is nothing yet to compute a rate from.
type point struct {
	At     int64    `json:"t"` // Unix milliseconds
	Depth  *int64   `json:"depth"`
	Busy   *int     `json:"busy"`
	Done   *float64 `json:"done"`   // tasks a second, failed ones too
	Failed *float64 `json:"failed"` // of these
}

// kept is how many points the history has: ten minutes, at one a second.
const kept = 600

// history is a ring of points.
type history struct {
	ring []point
	next int
}

func (h *history) add(p point) {
	if len(h.ring) < kept {
		h.ring = append(h.ring, p)
		return
	}
	h.ring[h.next] = p
	h.next = (h.next + 1) % kept
}

// all are the points, oldest first.
func (h *history) all() []point {
	return append(append(make([]point, 0, len(h.ring)), h.ring[h.next:]...), h.ring[:h.next]...)
}
