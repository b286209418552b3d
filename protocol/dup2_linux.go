package protocol

import "syscall"

// dup2 makes to a copy of from that child processes inherit. Not every Linux
// has a system call of that name.
func dup2(from, to int) error { return syscall.Dup3(from, to, 0) }
