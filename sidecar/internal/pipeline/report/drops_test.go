package report

import (
	"errors"
	"io"
	"syscall"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// TestAResultWhoseConnectionIsCutEachTime: the fifth cut in a row rejects it. Smaller results
// and other errors are no sign of a limit.
func TestAResultWhoseConnectionIsCutEachTime(t *testing.T) {
	result := func(delivery string, size int) []task.Outcome {
		return []task.Outcome{{Task: task.Task{Delivery: delivery}, Value: make([]byte, size)}}
	}
	large := result("w.1", largeValue)
	for name, c := range map[string]struct {
		between []task.Outcome
		err     error
		want    bool
	}{
		"reset":                   {large, syscall.ECONNRESET, true},
		"closed":                  {large, io.EOF, true},
		"a failure of the server": {large, errors.New("OOM full"), false},
		"a refused connection":    {large, syscall.ECONNREFUSED, false},
		"another result":          {result("w.2", largeValue), io.EOF, false},
		"a smaller result":        {result("w.1", largeValue-1), io.EOF, false},
		"a batch":                 {append(result("w.1", largeValue), large...), io.EOF, false},
	} {
		t.Run(name, func(t *testing.T) {
			var d drops
			for i := range 2 * maxDrops {
				err, batch := io.EOF, large
				if i%maxDrops == maxDrops-2 {
					err, batch = c.err, c.between
				}
				got := d.classify(err, batch)
				var rejected *droppedError
				if is := errors.As(got, &rejected); is != (c.want && i%maxDrops == maxDrops-1) || !errors.Is(got, err) {
					t.Errorf("call %d: %v", i+1, got)
				}
			}
		})
	}
}
