//go:build darwin || dragonfly || freebsd || netbsd || openbsd

package protocol

import "syscall"

// dup2 makes to a copy of from that child processes inherit.
func dup2(from, to int) error { return syscall.Dup2(from, to) }
