package report

import (
	"slices"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// TestTheOrderOfASpool: first the returned records, the last claimed first, then the others by
// their size. Of one size, they keep their order.
func TestTheOrderOfASpool(t *testing.T) {
	outcome := func(seq int64, c task.Conclusion, record, value int) task.Outcome {
		return task.Outcome{Task: task.Task{Seq: seq, Record: make([]byte, record)}, Conclusion: c, Value: make([]byte, value)}
	}
	list := []task.Outcome{
		outcome(9, task.Succeeded, 200, 0), outcome(8, task.Failed, 0, 0), outcome(1, task.Succeeded, 10, 90), outcome(2, task.Returned, 500, 0), outcome(3, task.Failed, 20, 0),
		outcome(4, task.Succeeded, 0, 0), outcome(5, task.Failed, 0, 0), outcome(6, task.Returned, 5, 0), outcome(7, task.Returned, 50, 0),
	}
	sortForSpool(list)
	var got []int64
	for _, o := range list {
		got = append(got, o.Task.Seq)
	}
	if want := []int64{7, 6, 2, 8, 4, 5, 3, 1, 9}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	list = []task.Outcome{outcome(2, task.Returned, 500, 0), outcome(3, task.Failed, 0, 0)}
	if sortForSpool(list); list[0].Task.Seq != 2 {
		t.Error("a returned record is behind another outcome")
	}
}
