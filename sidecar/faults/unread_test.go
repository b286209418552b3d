//go:build faults

package faults

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"
)

// TestALogThatStalls: the reader of a sidecar's log stays and does not read. Its
// tasks are run and reported, a worker that dies is replaced, and it stops as
// ever.
func TestALogThatStalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := w.start(setup{stderr: out, env: append([]string{"SIDECAR_SHUTDOWN_TIMEOUT=5s"}, eager...)})
	w.group(w.work(8, 20)...)
	w.settle(20 * time.Second)
	fillUp(t, out)
	_ = out.Close()
	w.hurt("the log of " + s.id + " is not read")
	for range 3 {
		w.group(w.work(30, 20)...)
		w.settle(20 * time.Second)
	}
	w.verify("a log that is not read") // which stops it, and expects status 0
}

// fillUp writes to a pipe until it is full.
func fillUp(t *testing.T, out *os.File) {
	t.Helper()
	fd := int(out.Fd())
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{4096, 1} {
		var err error
		for err == nil {
			_, err = syscall.Write(fd, make([]byte, size))
		}
		if !errors.Is(err, syscall.EAGAIN) {
			t.Fatal(err)
		}
	}
	if err := syscall.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
}
