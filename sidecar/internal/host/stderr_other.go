//go:build !linux

package host

// UnblockStderr does nothing: a standard error cannot be opened again here.
func UnblockStderr() {}
