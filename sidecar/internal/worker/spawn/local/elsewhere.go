package local

// What only a remote process can tell, one that a host in another container looks
// after.

// Leaving is closed when p is to take no further tasks and to end when its work is
// done, since its host stops; nil for a process without a host.
func Leaving(p Process) <-chan struct{} {
	if told, ok := p.(interface{ Leaving() <-chan struct{} }); ok {
		return told.Leaving()
	}
	return nil
}

// Excused reports whether p was ended by its host at the end of the host's stop, and
// did nothing wrong. Call it after Exited.
func Excused(p Process) bool {
	told, ok := p.(interface{ Excused() bool })
	return ok && told.Excused()
}

// InputRead is the number of bytes of its stdin that p has read; all bytes where that
// is unknown. Call it after Exited.
func InputRead(p Process, written int64) int64 {
	if told, ok := p.(interface{ InputRead(written int64) int64 }); ok {
		return told.InputRead(written)
	}
	return written
}

// HostStops is closed when the host of p begins its own stop, also where p has ended
// before; nil where the sidecar is the host.
func HostStops(p Process) <-chan struct{} {
	if told, ok := p.(interface{ HostStops() <-chan struct{} }); ok {
		return told.HostStops()
	}
	return nil
}

// LeftBehind reports whether p ended and left running processes behind, in its group
// or with its mark, as a program does that makes a daemon of itself; they are dead
// now. Call it after Exited; false where that is unknown.
func LeftBehind(p Process) bool {
	told, ok := p.(interface{ LeftBehind() bool })
	return ok && told.LeftBehind()
}

// Company reports whether p died together with other processes, so that the one
// at fault is unknown. Call it after Exited.
func Company(p Process) bool {
	told, ok := p.(interface{ Company() bool })
	return ok && told.Company()
}
