package serverproc

import "syscall"

// killGroup ends the server and what it forked. The group's id is the
// leader's pid, and the kernel does not reuse it while a member lives.
func (p *Process) killGroup() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
}
