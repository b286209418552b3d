package report

import (
	"fmt"
	"strings"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// maxText bounds an error's text and a worker's last lines where Redis rejects them
// whole: producers get them as they are otherwise, as with Graflow's own worker. Redis
// takes at least a megabyte as one argument.
const maxText = 64 << 10

// bound cuts the texts of an outcome.
func bound(o *task.Outcome) {
	if len(o.MessageJSON) > maxText {
		o.MessageJSON = nil // Message has the same
	}
	o.Message, o.Stderr = shortened(o.Message), shortened(o.Stderr)
}

// shortened keeps the head and the tail of a long text.
func shortened(text string) string {
	const head, tail = maxText * 3 / 4, maxText / 8
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:head], "") +
		fmt.Sprintf(" … (%d bytes left out) … ", len(text)-head-tail) +
		strings.ToValidUTF8(text[len(text)-tail:], "")
}

// size is how many bytes the report of an outcome moves, to Redis or within it,
// but for what every outcome has.
func size(o *task.Outcome) int {
	n := len(o.Value) + len(o.Message) + len(o.MessageJSON) + len(o.Stderr)
	if o.Kind != task.Succeeded && o.Kind != task.Failed {
		n += len(o.Task.Record)
	}
	return n
}

// fitting is how many outcomes, from the first on, make one batch.
func fitting(pending []task.Outcome) int {
	bytes := 0
	for n := range min(len(pending), maxBatch) {
		bytes += size(&pending[n])
		if bytes > maxBytes && n > 0 {
			return n
		}
	}
	return min(len(pending), maxBatch)
}
