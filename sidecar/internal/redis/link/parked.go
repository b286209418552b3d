package link

import "sync/atomic"

// Parked counts the records outside of the queue that may be claimed, as of the last tick of
// the lease. No arrival in the queue announces them.
type Parked struct {
	Unrouted atomic.Int64 // they match no kind of the sidecar that parked them
	Isolated atomic.Int64 // they must run alone
}

// Any reports whether there are parked records.
func (a *Parked) Any() bool { return a.Unrouted.Load()+a.Isolated.Load() > 0 }
