package local

import (
	"fmt"
	"os"
	"syscall"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/reaper"
)

// Adopt makes a Process of one that another program, such as a fork server, started for
// the sidecar, and that became the sidecar's child when the process between them ended.
// stdin, stdout and stderr are the sidecar's ends of its pipes, and id is the
// [IDVariable] in the environment of all processes that it starts. Adopt makes it the
// leader of a process group, if it is not one yet; it does not set the parent-death
// signal. After an error the pipes are still open.
//
// Call [reaper.Expect] before the process is requested, and its done after Adopt: a
// process that dies in between is still adopted, and its exit status is not lost.
func Adopt(pid int, id string, stdin, stdout, stderr *os.File) (Process, error) {
	if err := reaper.Claim(pid); err != nil {
		return nil, err
	}
	if err := lead(pid); err != nil {
		reaper.Release(pid) // the reaper waits for it
		return nil, err
	}
	p := &proc{pid: pid, id: id, stdin: stdin, stdout: stdout, stderr: stderr, exited: make(chan struct{})}
	go p.wait()
	return p, nil
}

// lead makes a child the leader of its group. Signals go to the group; without a group
// of its own they would reach no process, or the sidecar's own group.
func lead(pid int) error {
	if group, err := syscall.Getpgid(pid); err == nil && group == pid {
		return nil
	}
	if err := syscall.Setpgid(pid, pid); err != nil {
		return fmt.Errorf("process %d leads no process group and cannot be made to: %w", pid, err)
	}
	return nil
}
