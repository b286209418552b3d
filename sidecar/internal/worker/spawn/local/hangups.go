package local

import (
	"sync"
	"time"
)

// Hangups records the SIGHUPs to a host of processes: the sidecar, or sidecar connect.
// The zero value has none. Its methods may be called concurrently.
type Hangups struct {
	mu   sync.Mutex
	last time.Time
	next chan struct{} // closed by the next SIGHUP; nil if no call waits for it
}

// Note records a SIGHUP at the present time.
func (h *Hangups) Note() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last = time.Now()
	if h.next != nil {
		close(h.next)
		h.next = nil
	}
}

// Recent reports whether a SIGHUP arrived within the given time; next is closed by the
// next one.
func (h *Hangups) Recent(within time.Duration) (is bool, next <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.next == nil {
		h.next = make(chan struct{})
	}
	return !h.last.IsZero() && time.Since(h.last) < within, h.next
}

// HostHangups returns the hangups of the host of p, also after the end of p; nil if the
// sidecar is the host.
func HostHangups(p Process) *Hangups {
	if told, ok := p.(interface{ HostHangups() *Hangups }); ok {
		return told.HostHangups()
	}
	return nil
}
