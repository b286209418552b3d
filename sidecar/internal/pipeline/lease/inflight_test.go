package lease

import (
	"slices"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

func TestInFlight(t *testing.T) {
	h := NewInFlightSet()
	check := func(run string, seen int64, want ...string) {
		t.Helper()
		got, upTo := h.Deliveries(run)
		slices.Sort(got)
		if upTo != seen || !slices.Equal(got, want) {
			t.Errorf("of %s: %v up to %d, want %v up to %d", run, got, upTo, want, seen)
		}
	}
	check("a", 0)
	h.Add([]task.Task{{Delivery: "a.1", Seq: 1}, {Delivery: "a.2", Seq: 2}})
	check("a", 2, "a.1", "a.2")
	h.Remove([]task.Outcome{{Task: task.Task{Delivery: "a.2"}}})
	check("a", 2, "a.1")
	h.Adopt(task.Task{Delivery: "a.1099511627777", Seq: 1 << 40}) // adopted: its number is not a claim sequence number
	check("a", 2, "a.1", "a.1099511627777")
	check("b", 0)
	h.Add([]task.Task{{Delivery: "b.1", Seq: 1}})
	check("b", 1, "b.1")
	check("a", 0)
	h.Remove([]task.Outcome{{Task: task.Task{Delivery: "a.1"}}}) // a late outcome of a former run
	check("b", 1, "b.1")
}
