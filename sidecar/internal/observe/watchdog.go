package observe

import (
	"fmt"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
)

// Watchdog tells a sidecar whose claim loop or worker stage has stalled from one that
// has a reason to stand still: a Redis that is away, slots that are taken, a pause, a
// stop. It runs outside of the loops that it watches.
type Watchdog struct {
	// Claims is how long the claim loop has stood still for no reason, if that is longer
	// than it may; 0 otherwise. See claim.Tracker.
	Claims func(within time.Duration, excused, busy bool) time.Duration
	// Handover is how long a task that could start has waited with no other taken
	// meanwhile, if that is longer than it may. See dispatch.HandoverWatch.
	Handover func(within time.Duration) time.Duration
	// Excused reports whether nothing need be claimed.
	Excused func() bool
	// Busy reports whether no slot is free for a task.
	Busy func() bool

	ClaimLimit, HandoverLimit time.Duration
}

// CallLimit is the longest that one call to Redis takes, where go-redis adds ten
// seconds to the wait for a blocked one.
func CallLimit(r config.Redis) time.Duration {
	return r.DialTimeout + r.ReadTimeout + r.WriteTimeout + 15*time.Second
}

// Stalled says in words that the loop that claims tasks, or the stage that runs them,
// no longer moves though it should; "" while they do. It is to be asked every few
// seconds, and does not return where the stall is a lock that is never released.
func (w *Watchdog) Stalled() string {
	if still := w.Claims(w.ClaimLimit, w.Excused(), w.Busy()); still > 0 {
		return fmt.Sprintf("the claim loop has not moved for %v", still.Round(time.Second))
	}
	if waited := w.Handover(w.HandoverLimit); waited > 0 {
		return fmt.Sprintf("a slot is free, and no worker has taken the next task for %v", waited.Round(time.Second))
	}
	return ""
}
