package lease

import (
	"strconv"
	"sync"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// InFlight is what the sidecar holds: every delivery from its claim to its settlement.
// Its methods may be called concurrently.
type InFlight struct {
	mu   sync.Mutex
	set  map[int64]struct{} // by the number that ends a delivery's id
	run  string             // whose deliveries these are
	seen int64              // its highest claim sequence number
}

// NewInFlight makes an empty set.
func NewInFlight() *InFlight { return &InFlight{set: make(map[int64]struct{})} }

// Add enters what was claimed. With a run's first delivery those of the run
// before are forgotten.
func (h *InFlight) Add(ts []task.Task) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range ts {
		h.enterLocked(ts[i].Delivery)
		h.seen = max(h.seen, ts[i].Seq)
	}
}

// Adopt enters what was taken over from another run; that has numbers of its
// own.
func (h *InFlight) Adopt(t task.Task) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.enterLocked(t.Delivery)
}

// enterLocked enters a delivery, and begins anew for another run.
func (h *InFlight) enterLocked(delivery string) {
	run, n := task.SplitDelivery(delivery)
	if run != h.run {
		h.run, h.seen = run, 0
		clear(h.set)
	}
	h.set[n] = struct{}{}
}

// Remove takes out what is settled. What comes late, of a run before, has gone
// with that.
func (h *InFlight) Remove(settled []task.Outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range settled {
		if run, n := task.SplitDelivery(settled[i].Task.Delivery); run == h.run {
			delete(h.set, n)
		}
	}
}

// Of is what we hold for a run, and up to which claim sequence number that is
// all there is.
func (h *InFlight) Of(run string) (held []string, seen int64) {
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
