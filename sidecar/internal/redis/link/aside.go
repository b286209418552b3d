package link

import "sync/atomic"

// Aside counts the records that no arrival in the queue tells of, as of the last tick
// of the lease.
type Aside struct {
	Unrouted atomic.Int64 // other sidecars have no worker for them
	Isolated atomic.Int64 // they must run alone
}

// Any reports whether there are some.
func (a *Aside) Any() bool { return a.Unrouted.Load()+a.Isolated.Load() > 0 }
