package subproc

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"syscall"
)

// MaxInput is how much a command may have as its Stdin, see [Start]: every pipe
// holds that much, whoever reads it.
const MaxInput = 4096

// pipes are those of a child's standard streams, in their order: the ends that it
// gets, and ours. Only ours are made for waiting. theirs are -1, and ours nil,
// where there is none.
type pipes struct {
	theirs [3]int
	ours   [3]*os.File
}

// open makes the pipes. What is there as the input is in the first one then, and
// its end, too.
func (ps *pipes) open(input io.Reader) error {
	ps.theirs = [3]int{-1, -1, -1}
	for i := range ps.theirs {
		r, w, err := openPipe()
		if err != nil {
			return fmt.Errorf("no pipe for the worker: %w", err)
		}
		ours := r
		if ps.theirs[i] = w; i == 0 {
			ps.theirs[i], ours = r, w
		}
		if i == 0 && input != nil {
			err := fill(w, input)
			_ = syscall.Close(w)
			if err != nil {
				return err
			}
			continue
		}
		_ = syscall.SetNonblock(ours, true)
		ps.ours[i] = os.NewFile(uintptr(ours), "|"+[...]string{"stdin", "stdout", "stderr"}[i])
	}
	return nil
}

// fill writes into an empty pipe what is sure to have room there.
func fill(fd int, input io.Reader) error {
	text, ok := input.(*bytes.Reader)
	if !ok || text.Len() > MaxInput {
		return fmt.Errorf("a worker's input is a *bytes.Reader of %d bytes at most", MaxInput)
	}
	b := make([]byte, text.Len())
	_, _ = text.Read(b)
	if _, err := syscall.Write(fd, b); err != nil {
		return fmt.Errorf("write the worker's input: %w", err)
	}
	return nil
}

func (ps *pipes) closeTheirs() {
	for i, fd := range ps.theirs {
		if fd >= 0 {
			_ = syscall.Close(fd)
			ps.theirs[i] = -1
		}
	}
}

func (ps *pipes) close() {
	ps.closeTheirs()
	for _, f := range ps.ours {
		if f != nil {
			_ = f.Close()
		}
	}
}
