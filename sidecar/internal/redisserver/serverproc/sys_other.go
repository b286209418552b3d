//go:build unix && !linux

package serverproc

import "syscall"

// sysProcAttr sets no parent-death signal, which only Linux has: a SIGKILL of this
// process leaves the server behind.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
