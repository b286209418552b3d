package app

import (
	"strings"
	"sync"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// ledger is what we hold: every delivery from its claim to its settlement.
type ledger struct {
	mu   sync.Mutex
	set  map[string]struct{}
	run  string // whose deliveries these are
	seen int64  // its highest claim sequence number
}

func newLedger() *ledger { return &ledger{set: make(map[string]struct{})} }

// add enters what was claimed. With a run's first delivery those of the run
// before are forgotten.
func (h *ledger) add(ts []task.Task) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range ts {
		h.turnLocked(t.Delivery)
		h.set[t.Delivery] = struct{}{}
		h.seen = max(h.seen, t.Seq)
	}
}

// adopt enters what was taken over from another run; that has numbers of its
// own.
func (h *ledger) adopt(t task.Task) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.turnLocked(t.Delivery)
	h.set[t.Delivery] = struct{}{}
}

// turnLocked begins anew for another run.
func (h *ledger) turnLocked(delivery string) {
	if run := delivery[:strings.LastIndexByte(delivery, '.')]; run != h.run {
		h.run, h.seen = run, 0
		clear(h.set)
	}
}

func (h *ledger) remove(delivery string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.set, delivery)
}

// of is what we hold for a run, and up to which claim sequence number that is
// all there is.
func (h *ledger) of(run string) (held []string, seen int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if run != h.run {
		return nil, 0
	}
	held = make([]string, 0, len(h.set))
	for d := range h.set {
		held = append(held, d)
	}
	return held, h.seen
}
