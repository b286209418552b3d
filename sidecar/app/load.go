package app

import (
	"github.com/graflow/graflow-sidecar/sidecar/config"
)

// maxEnvelope is how many bytes a task/run line of the worker protocol has at most
// besides its record.
const maxEnvelope = 512

// longest is how many bytes a record for a kind of worker may have: a worker skips
// a longer line (protocol rule P4), and its slot and the task's group would wait for
// ever. A program of mode exec gets no line, and a record as long as its
// result may be.
func (a *App) longest(route int) int {
	if len(a.cfg.Kinds) == 0 {
		return longestFor(a.cfg.Mode, a.cfg.Worker.MaxMessageBytes)
	}
	most := 0
	for i, k := range a.cfg.Kinds {
		n := longestFor(k.Mode, k.Worker.MaxMessageBytes)
		if i == route {
			return n
		}
		most = max(most, n)
	}
	return most
}

func longestFor(m config.Mode, maxMessage int) int {
	if m == config.ModeExec {
		return maxMessage
	}
	return maxMessage - maxEnvelope
}
