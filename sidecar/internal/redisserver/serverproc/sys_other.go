//go:build unix && !linux

package serverproc

import "syscall"

// Other systems have no parent-death signal: a SIGKILL of this process leaves
// the server behind there.
func sysProcAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
