package local

// What only some processes can tell: those that somebody else looks after, such
// as the ones in another container.

// Leaving is closed when p is to take nothing more and to end when its work is
// done, since its host goes; nil where there is no such host.
func Leaving(p Process) <-chan struct{} {
	if told, ok := p.(interface{ Leaving() <-chan struct{} }); ok {
		return told.Leaving()
	}
	return nil
}

// Excused reports whether p was ended by its host, as its stop was over, and did
// nothing wrong. Only after Exited.
func Excused(p Process) bool {
	told, ok := p.(interface{ Excused() bool })
	return ok && told.Excused()
}

// InputRead is how many of the bytes that were written to the stdin of p it has read.
// Only after Exited. Where that cannot be told it is all of them.
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
// now. Only after Exited; false where that cannot be told.
func LeftBehind(p Process) bool {
	told, ok := p.(interface{ LeftBehind() bool })
	return ok && told.LeftBehind()
}

// Company reports whether p died together with other processes: nobody knows
// whose fault it was. Only after Exited.
func Company(p Process) bool {
	told, ok := p.(interface{ Company() bool })
	return ok && told.Company()
}
