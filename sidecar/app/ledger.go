package app

import (
	"strconv"
	"strings"
	"sync"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// ledger is what we hold: every delivery from its claim to its settlement.
type ledger struct {
	mu   sync.Mutex
	set  map[int64]struct{} // by the number that ends a delivery's id
	run  string             // whose deliveries these are
	seen int64              // its highest claim sequence number
}

func newLedger() *ledger { return &ledger{set: make(map[int64]struct{})} }

// add enters what was claimed. With a run's first delivery those of the run
// before are forgotten.
func (h *ledger) add(ts []task.Task) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range ts {
		h.enterLocked(ts[i].Delivery)
		h.seen = max(h.seen, ts[i].Seq)
	}
}

// adopt enters what was taken over from another run; that has numbers of its
// own.
func (h *ledger) adopt(t task.Task) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.enterLocked(t.Delivery)
}

// enterLocked enters a delivery, and begins anew for another run.
func (h *ledger) enterLocked(delivery string) {
	run, n := parts(delivery)
	if run != h.run {
		h.run, h.seen = run, 0
		clear(h.set)
	}
	h.set[n] = struct{}{}
}

// parts are a delivery's run and number.
func parts(delivery string) (run string, n int64) {
	dot := strings.LastIndexByte(delivery, '.')
	n, _ = strconv.ParseInt(delivery[dot+1:], 10, 64) // the store makes the ids
	return delivery[:dot], n
}

// remove takes out what is settled. What comes late, of a run before, has gone
// with that.
func (h *ledger) remove(settled []task.Outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range settled {
		if run, n := parts(settled[i].Task.Delivery); run == h.run {
			delete(h.set, n)
		}
	}
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
	for n := range h.set {
		held = append(held, run+"."+strconv.FormatInt(n, 10))
	}
	return held, h.seen
}
