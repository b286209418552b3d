package app

import (
	"fmt"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
)

// stillFor is how long a claim loop that is well may stand still: the longest
// that one call to Redis takes, where go-redis adds ten seconds to the wait for
// a blocked one.
func stillFor(r config.Redis) time.Duration {
	return r.DialTimeout + r.ReadTimeout + r.WriteTimeout + 15*time.Second
}

// takeWithin is how long a task that could start may wait for a worker to take it.
// Meanwhile a worker that ignores a cancelled task may be ended, which keeps its other
// slots from taking any.
func takeWithin(c *config.Config) time.Duration {
	grace := c.Worker.KillGrace
	for _, k := range c.Kinds {
		grace = max(grace, k.Worker.KillGrace)
	}
	return stillFor(c.Redis) + 2*grace
}

// Stuck says in words that the loop that claims tasks, or the stage that runs them, no
// longer moves though it should; "" while they do. A Redis that is away, slots that are
// taken, a pause and a stop are no such reasons. It is a question for a watchdog, to be asked
// every few seconds; where a lock is what is stuck, it does not return.
func (a *App) Stuck() string {
	if a.cfg.Mode == config.ModeSupervise {
		return "" // the workers take their tasks themselves
	}
	excused := a.mon.Lost() || a.queue.IsQuiet() || a.queue.Halted()
	if still := a.tracker.Overdue(stillFor(a.cfg.Redis), excused, !a.wantsTasks()); still > 0 {
		return fmt.Sprintf("the claim loop has not moved for %v", still.Round(time.Second))
	}
	if waited := a.handover.Overdue(takeWithin(&a.cfg), a.queue.Handover()); waited > 0 {
		return fmt.Sprintf("a slot is free, and no worker has taken the next task for %v", waited.Round(time.Second))
	}
	return ""
}

// wantsTasks reports whether a slot is free for a task, and may have one.
func (a *App) wantsTasks() bool {
	for _, n := range a.queue.Wants() {
		if n > 0 {
			return true
		}
	}
	return false
}
