package local

// The functions of this file return what only a remote process knows, which runs under a
// host in another container.

// Leaving returns a channel that is closed when p is to take no further tasks and to
// end when its tasks have ended, because its host stops; nil for a process without a
// host.
func Leaving(p Process) <-chan struct{} {
	if told, ok := p.(interface{ Leaving() <-chan struct{} }); ok {
		return told.Leaving()
	}
	return nil
}

// Excused reports whether the host of p ended it at the end of the host's stop, without
// a fault of p. It may be called after Exited.
func Excused(p Process) bool {
	told, ok := p.(interface{ Excused() bool })
	return ok && told.Excused()
}

// InputRead returns the number of bytes that p has read from its stdin; all bytes if
// that is unknown. It may be called after Exited.
func InputRead(p Process, written int64) int64 {
	if told, ok := p.(interface{ InputRead(written int64) int64 }); ok {
		return told.InputRead(written)
	}
	return written
}

// HostStops returns a channel that is closed when the host of p begins to stop, also
// after the end of p; nil if the sidecar is the host.
func HostStops(p Process) <-chan struct{} {
	if told, ok := p.(interface{ HostStops() <-chan struct{} }); ok {
		return told.HostStops()
	}
	return nil
}

// LeftBehind reports whether p ended and left running processes behind, in its group or
// with its mark, as a program does that makes a daemon of itself. They are dead by
// then. It may be called after Exited; it is false if unknown.
func LeftBehind(p Process) bool {
	told, ok := p.(interface{ LeftBehind() bool })
	return ok && told.LeftBehind()
}

// SharedDeath reports whether p died together with other processes, so that the faulty
// one is unknown. It may be called after Exited.
func SharedDeath(p Process) bool {
	told, ok := p.(interface{ SharedDeath() bool })
	return ok && told.SharedDeath()
}
