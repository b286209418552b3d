// Package pid1 is the init of a container whose entrypoint the sidecar is. The
// kernel treats process 1 of a PID namespace unlike others: a signal that it does
// not catch is not delivered, every orphan becomes its child, and its end kills
// every process. A program that has its own children to wait for does that badly, so
// the binary starts itself once more and leaves the role to the first one.
package pid1

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// forwarded are the signals to the container that are meant for the sidecar.
// Those of a terminal come here only if another process sent them:
// the terminal's own go to its foreground group, which is the child's.
var forwarded = []os.Signal{
	unix.SIGTERM, unix.SIGINT, unix.SIGHUP, unix.SIGQUIT, unix.SIGTSTP, unix.SIGCONT, unix.SIGUSR1, unix.SIGUSR2,
}

// endGrace bounds the wait for the death of what is left at the end.
const endGrace = 2 * time.Second

// Needed reports whether this process is a PID namespace's first.
func Needed() bool { return os.Getpid() == 1 }

// Run starts the program again with the same arguments, environment and files,
// passes signals on to it, reaps orphans, and kills what is left when it has
// ended. It returns the exit status: the program's own, or 128 and the number of
// the signal that killed it. Only for a process that starts nothing else.
func Run(args, env []string) (status int, err error) {
	// Before there is a child: a signal that comes now is passed on later.
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, forwarded...)
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, unix.SIGCHLD)

	path, err := os.Executable()
	if err != nil {
		return 0, fmt.Errorf("cannot find the program to start it as a child of process 1: %w", err)
	}
	child, err := syscall.ForkExec(path, args, &syscall.ProcAttr{
		Env: env, Files: []uintptr{0, 1, 2}, // and those above, which are still open
		Sys: &syscall.SysProcAttr{Setpgid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("cannot start the program as a child of process 1: %w", err)
	}
	giveTerminal(child)
	closeInherited()
	for {
		select {
		case sig := <-signals:
			_ = unix.Kill(child, sig.(syscall.Signal))
		case <-ended:
			if status, over := reap(child); over {
				endOthers(ended)
				return status, nil
			}
		}
	}
}

// giveTerminal makes the child's group the foreground of the terminal, if there
// is one: Ctrl-C is the child's then, and does not come twice.
func giveTerminal(child int) {
	for fd := range 3 {
		if unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, child) == nil {
			return
		}
	}
}

// closeInherited closes what this process was given beyond its standard files
// and the child has by now: a parent that waits for the end of a pipe (--ready-fd)
// waits for the child's end.
func closeInherited() {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, entry := range entries {
		fd, err := strconv.Atoi(entry.Name())
		if err != nil || fd < 3 {
			continue
		}
		// Ours are closed on exec, all of them.
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
}

// reap waits for every process that has ended. (No other part of this process waits
// for a child of its own.)
func reap(child int) (status int, over bool) {
	for {
		var ws unix.WaitStatus
		pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || pid <= 0:
			return status, over
		case pid != child:
		case ws.Signaled():
			status, over = 128+int(ws.Signal()), true
		default:
			status, over = ws.ExitStatus(), true
		}
	}
}

// endOthers kills whatever else there is in the namespace and reaps it. (The
// kernel would do so at our end, and wait for as long as that takes.)
func endOthers(ended <-chan os.Signal) {
	if !Needed() {
		return // the next line would signal every process
	}
	_ = unix.Kill(-1, unix.SIGKILL)
	timer := time.NewTimer(endGrace)
	defer timer.Stop()
	for {
		reap(0)
		if errors.Is(unix.Kill(-1, 0), unix.ESRCH) {
			return
		}
		select {
		case <-ended:
		case <-timer.C:
			return
		}
	}
}
