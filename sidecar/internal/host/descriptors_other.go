//go:build !linux

package host

import "syscall"

// KeepDescriptors marks the descriptors that this process was started with as none
// of its children's.
func KeepDescriptors() {
	const first, most = 3, 256
	for fd := first; fd < most; fd++ {
		syscall.CloseOnExec(fd)
	}
}
