//go:build !linux

package host

// KeepPrivate is for Linux.
func KeepPrivate() {}
