package report

import (
	"fmt"
	"strings"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

// maxText is the length to which error texts and the last lines of a worker are cut after
// Redis has rejected them. Otherwise producers receive them whole, as from Graflow's own
// worker. Redis accepts at least a megabyte as one argument.
const maxText = 64 << 10

// cutTexts cuts the texts of an outcome to maxText.
func cutTexts(o *task.Outcome) {
	if len(o.MessageJSON) > maxText {
		o.MessageJSON = nil // Message holds the same text
	}
	o.Message, o.Stderr = shortened(o.Message), shortened(o.Stderr)
}

// shortened returns the head and the tail of a long text.
func shortened(text string) string {
	const head, tail = maxText * 3 / 4, maxText / 8
	if len(text) <= maxText {
		return text
	}
	return strings.ToValidUTF8(text[:head], "") +
		fmt.Sprintf(" … (%d bytes left out) … ", len(text)-head-tail) +
		strings.ToValidUTF8(text[len(text)-tail:], "")
}

// reportSize returns the number of bytes that the report of an outcome moves to Redis or
// within it, without the part that every report has.
func reportSize(o *task.Outcome) int {
	n := len(o.Value) + len(o.Message) + len(o.MessageJSON) + len(o.Stderr)
	if o.Conclusion != task.Succeeded && o.Conclusion != task.Failed {
		n += len(o.Task.Record)
	}
	return n
}

// batchLen returns the number of outcomes, from the first on, that form one batch.
func batchLen(pending []task.Outcome) int {
	bytes := 0
	for n := range min(len(pending), maxBatch) {
		bytes += reportSize(&pending[n])
		if bytes > maxBytes && n > 0 {
			return n
		}
	}
	return min(len(pending), maxBatch)
}
