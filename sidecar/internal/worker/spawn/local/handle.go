// Package local runs worker processes as processes of the operating system: each in a
// process group of its own, with pipes for its streams. It ends them in steps and logs
// their output. It does not know what its users send through the pipes.
package local

import (
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// IDVariable is in the environment of every worker process, with a unique value. The
// processes that it starts inherit this mark, also if they leave the group.
const IDVariable = "SIDECAR_PROCESS_ID"

// processID returns the value of IDVariable in an environment.
func processID(env []string) (id string) {
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, IDVariable+"="); ok {
			id = value // the last one counts
		}
	}
	return id
}

// Process is one running worker process. A [Spawner] makes those of the operating
// system. It is an interface so that stages can be tested together in a bubble of
// testing/synctest, in which nothing may wait for a real pipe or process. Its methods
// may be called concurrently.
type Process interface {
	Pid() int
	// Stdin, Stdout and Stderr are the sidecar's ends of the pipes.
	Stdin() WritePipe
	Stdout() ReadPipe
	Stderr() ReadPipe
	// Exited is closed once the process is reaped, and its group and the processes that
	// have left the group are dead.
	Exited() <-chan struct{}
	// Signal sends a signal to the whole group. It does nothing once the process is
	// reaped.
	Signal(sig syscall.Signal)
	// Fate describes how the process ended. It may be called after Exited.
	Fate() string
}

// WritePipe is an *os.File or a replacement.
type WritePipe interface {
	io.WriteCloser
	SetWriteDeadline(t time.Time) error
}

// ReadPipe is an *os.File or a replacement.
type ReadPipe interface {
	io.ReadCloser
	SetReadDeadline(t time.Time) error
}

// NowReader is a [ReadPipe] that can also be read without waiting, like those of a
// [Spawner]'s processes.
type NowReader interface {
	// ReadNow reads what is in the pipe. It fails with [syscall.EAGAIN] if the pipe is
	// empty, and with [io.EOF] at the end.
	ReadNow(b []byte) (n int, err error)
}

// Start makes a process of a command that has everything except its streams and its
// group.
type Start func(cmd *exec.Cmd) (Process, error)
