package serverproc

import "syscall"

// killGroup kills the server and its forked children. The id of the group is the pid of
// its leader, and the kernel does not reuse it while a member lives.
func (p *Process) killGroup() {
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
}
