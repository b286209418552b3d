package lease

import (
	"strconv"
	"sync"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// InFlightSet is the set of deliveries in flight in this sidecar, from their claim until they
// are settled. Its methods may be called concurrently.
type InFlightSet struct {
	mu     sync.Mutex
	set    map[int64]struct{} // by the number at the end of the delivery id
	run    string             // the run of the deliveries
	maxSeq int64              // the highest claim sequence number of the run
}

// NewInFlightSet returns an empty set.
func NewInFlightSet() *InFlightSet { return &InFlightSet{set: make(map[int64]struct{})} }

// Add adds claimed tasks. The first delivery of a run removes those of the run before.
func (h *InFlightSet) Add(ts []task.Task) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range ts {
		h.addLocked(ts[i].Delivery)
		h.maxSeq = max(h.maxSeq, ts[i].Seq)
	}
}

// Adopt adds a task that was adopted from another run. Adopted tasks have their own sequence
// numbers.
func (h *InFlightSet) Adopt(t task.Task) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.addLocked(t.Delivery)
}

// addLocked adds a delivery, and clears the set before the first one of another run.
func (h *InFlightSet) addLocked(delivery string) {
	run, n := task.SplitDelivery(delivery)
	if run != h.run {
		h.run, h.maxSeq = run, 0
		clear(h.set)
	}
	h.set[n] = struct{}{}
}

// Remove removes settled deliveries. It ignores those of former runs.
func (h *InFlightSet) Remove(settled []task.Outcome) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range settled {
		if run, n := task.SplitDelivery(settled[i].Task.Delivery); run == h.run {
			delete(h.set, n)
		}
	}
}

// Deliveries returns the deliveries in flight of a run. They are complete up to the claim
// sequence number maxSeq.
func (h *InFlightSet) Deliveries(run string) (deliveries []string, maxSeq int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if run != h.run {
		return nil, 0
	}
	deliveries = make([]string, 0, len(h.set))
	for n := range h.set {
		deliveries = append(deliveries, run+"."+strconv.FormatInt(n, 10))
	}
	return deliveries, h.maxSeq
}
