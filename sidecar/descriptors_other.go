//go:build !linux

package main

import "syscall"

// keepDescriptors marks the descriptors that this process was started with as none
// of its children's.
func keepDescriptors() {
	const first, most = 3, 256
	for fd := first; fd < most; fd++ {
		syscall.CloseOnExec(fd)
	}
}
