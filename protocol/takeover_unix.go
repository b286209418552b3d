//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package protocol

import (
	"os"
	"os/signal"
	"syscall"
)

// takeOver moves stdin and stdout away from the rest of the program (P14):
// their descriptors are copied to private ones that no child process inherits,
// then 1 is pointed at stderr and 0 at nothing.
func takeOver() (in, out *os.File, err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, nil, err
	}
	defer null.Close()
	stdin, err := dupPrivate(0)
	if err != nil {
		return nil, nil, os.NewSyscallError("dup stdin", err)
	}
	stdout, err := dupPrivate(1)
	if err != nil {
		syscall.Close(stdin)
		return nil, nil, os.NewSyscallError("dup stdout", err)
	}
	unblock(stdin)
	in, out = os.NewFile(uintptr(stdin), "stdin"), os.NewFile(uintptr(stdout), "stdout")
	fail := func(call string, err error) (*os.File, *os.File, error) {
		in.Close()
		out.Close()
		return nil, nil, os.NewSyscallError(call, err)
	}
	if err := dup2(2, 1); err != nil {
		return fail("dup2 stdout", err)
	}
	if err := dup2(int(null.Fd()), 0); err != nil {
		return fail("dup2 stdin", err)
	}
	return in, out, nil
}

// unblock lets Go's poller wait for a pipe instead of a thread: a message then
// reaches its handler in half the time, and closing the file ends a read. The
// setting belongs to the read end of the pipe, which no other process has.
// Anything but a pipe stays as it is: a socket's or a terminal's setting is shared
// with stdout.
func unblock(fd int) {
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) == nil && st.Mode&syscall.S_IFMT == syscall.S_IFIFO {
		// Reading works the other way too.
		_ = syscall.SetNonblock(fd, true)
	}
}

// dupPrivate copies a descriptor to one that no child inherits.
func dupPrivate(fd int) (int, error) {
	// No fork between the two calls.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	n, err := syscall.Dup(fd)
	if err == nil {
		syscall.CloseOnExec(n)
	}
	return n, err
}

// watchSignals catches what would otherwise end the program in mid-task (P40).
// SIGPIPE comes from a print to a stderr without a reader, and is dropped: the print
// fails, the task goes on.
func watchSignals() (signals <-chan os.Signal, stop func()) {
	c, pipe := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM)
	signal.Notify(pipe, syscall.SIGPIPE)
	return c, func() {
		signal.Stop(c)
		signal.Stop(pipe)
	}
}
