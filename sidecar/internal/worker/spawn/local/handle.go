// Package local runs worker processes as the operating system sees them: each
// in a process group of its own, with pipes for its streams, ended by a ladder
// of steps, and its output turned into log lines. What is said over the pipes is
// its users' affair.
package local

import (
	"io"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// IDVariable is in the environment of every worker process, with a value that is
// its alone: what it starts inherits the mark, also where it leaves the group.
const IDVariable = "SIDECAR_PROCESS_ID"

// processID reads it.
func processID(env []string) (id string) {
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, IDVariable+"="); ok {
			id = value // the last one counts
		}
	}
	return id
}

// Process is one running worker process as the stages see it; a [Spawner] makes
// the operating system's. It is an interface so that a stage can be tested
// beside the others in a bubble of testing/synctest, where nothing may wait for
// a real pipe or a real process. Methods may be called concurrently.
type Process interface {
	Pid() int
	// Stdin, Stdout and Stderr are the sidecar's ends of the pipes.
	Stdin() WritePipe
	Stdout() ReadPipe
	Stderr() ReadPipe
	// Exited is closed once the process is reaped, and its group and what has left
	// the group are dead.
	Exited() <-chan struct{}
	// Signal goes to the whole group; it does nothing once the process is reaped.
	Signal(sig syscall.Signal)
	// Fate says in words how the process ended. Only after Exited.
	Fate() string
}

// WritePipe is an *os.File, or what takes its place.
type WritePipe interface {
	io.WriteCloser
	SetWriteDeadline(t time.Time) error
}

// ReadPipe is an *os.File, or what takes its place.
type ReadPipe interface {
	io.ReadCloser
	SetReadDeadline(t time.Time) error
}

// NowReader is a [ReadPipe] that can also be read without waiting, as those of a
// [Spawner]'s processes can.
type NowReader interface {
	// ReadNow reads what is in the pipe. It fails with [syscall.EAGAIN] where that
	// is nothing, and with [io.EOF] at the end.
	ReadNow(b []byte) (n int, err error)
}

// Start makes a process of a command that is complete but for its streams and
// its group.
type Start func(cmd *exec.Cmd) (Process, error)
