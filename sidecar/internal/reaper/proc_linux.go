package reaper

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"
)

// children lists the children of a process ("self" or its id), whichever of its
// threads started or adopted them.
func children(of string) (pids []int) {
	tasks, _ := os.ReadDir("/proc/" + of + "/task")
	listed := false
	for _, task := range tasks {
		list, err := os.ReadFile("/proc/" + of + "/task/" + task.Name() + "/children")
		if err != nil {
			continue // the thread may have ended
		}
		listed = true
		for field := range bytes.FieldsSeq(list) {
			if pid, err := strconv.Atoi(string(field)); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	if len(tasks) > 0 && !listed {
		return childrenByStat(of)
	}
	return pids
}

// childrenByStat is for kernels that were built without lists of children
// (CONFIG_PROC_CHILDREN): it looks at every process there is.
func childrenByStat(of string) (pids []int) {
	parent, err := strconv.Atoi(of)
	if err != nil {
		parent = os.Getpid()
	}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if of, _ := stat(pid); of == parent {
			pids = append(pids, pid)
		}
	}
	return pids
}

// stat reads a process's parent and what has become of it.
func stat(pid int) (parent int, now state) {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, gone
	}
	// The name stands in brackets and may hold anything; state and parent follow.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return 0, gone
	}
	parent, _ = strconv.Atoi(string(fields[1]))
	if fields[0][0] == 'Z' || fields[0][0] == 'X' {
		return parent, dead
	}
	return parent, running
}

type answer int

const (
	no answer = iota
	unsure
	yes
)

// hasEntry says whether a process was started with an entry (NAME=value) in its
// environment. One that has no environment may just be executing something else,
// or dying.
func hasEntry(pid int, entry string) answer {
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	switch {
	case err != nil:
		return no
	case len(env) == 0:
		return unsure
	}
	for field := range bytes.SplitSeq(env, []byte{0}) {
		if string(field) == entry {
			return yes
		}
	}
	return no
}

// settledChildren lists children exactly: the kernel's list may leave some out
// while others of them are being reaped.
func settledChildren(of string) []int {
	const most = 5
	last := children(of)
	for range most {
		next := children(of)
		if slices.Equal(last, next) {
			break
		}
		last = next
	}
	return last
}

// handle is a process that is known by more than a number, which is another's
// once somebody has waited for it.
type handle struct{ pid, fd int }

// state is what has become of a process.
type state int

const (
	gone    state = iota // or another's child
	dead                 // and not waited for
	running              // or dying
)

// hold takes hold of a running child of parent.
func hold(pid int, parent handle) (handle, state) {
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
		fd = -1 // an old kernel, or a filter of system calls that knows none newer
	case err != nil:
		return handle{}, gone
	}
	h := handle{pid, fd}
	of, now := stat(pid) // after it is held
	if of != parent.pid || parent.ended() {
		now = gone
	}
	if now != running {
		h.release()
	}
	return h, now
}

func (h handle) release() {
	if h.fd >= 0 {
		_ = unix.Close(h.fd)
	}
}

func (h handle) kill() error {
	if h.fd >= 0 {
		return unix.PidfdSendSignal(h.fd, unix.SIGKILL, nil, 0)
	}
	return unix.Kill(h.pid, unix.SIGKILL)
}

// ended reports whether the process has died.
func (h handle) ended() bool {
	if h.fd < 0 {
		_, now := stat(h.pid)
		return now != running
	}
	n, err := unix.Poll([]unix.PollFd{{Fd: int32(h.fd), Events: unix.POLLIN}}, 0)
	return err == nil && n > 0
}
