package reaper

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"
)

// children returns the children of a process ("self" or its id), of all its threads.
func children(of string) (pids []int) {
	return childrenOf(of, entries("/proc/"+of+"/task"))
}

// adopted returns the children of the main thread: the orphans of the sidecar, and few
// others. The kernel gives an orphan to the first thread that is alive (find_new_reaper
// in kernel/exit.c), and Go never ends the main thread. The threads that start workers
// have long lists that change all the time.
func adopted() []int {
	return childrenOf("self", []string{strconv.Itoa(os.Getpid())})
}

// roll is the kernel's list of [adopted], kept open: mode exec checks after every task
// whether there is an orphan, and there hardly ever is one.
type roll struct {
	mu sync.RWMutex
	fd int // -1 if there is no such list
}

func openRoll() *roll {
	self := strconv.Itoa(os.Getpid())
	fd, err := retry(func() (int, error) {
		return unix.Open("/proc/self/task/"+self+"/children", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		fd = -1
	}
	return &roll{fd: fd}
}

// isEmpty reports whether there is certainly no orphan. An empty list of the kernel is
// exact; only a list of several may miss one.
func (r *roll) isEmpty() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.fd < 0 {
		return false
	}
	var b [1]byte
	n, err := retry(func() (int, error) { return unix.Pread(r.fd, b[:], 0) })
	return err == nil && n == 0
}

func (r *roll) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fd >= 0 {
		_ = unix.Close(r.fd)
		r.fd = -1
	}
}

// childrenOf returns the children of some threads of a process.
func childrenOf(of string, tasks []string) (pids []int) {
	listed := false
	var room [1024]byte
	for _, task := range tasks {
		list, err := slurp("/proc/"+of+"/task/"+task+"/children", room[:0])
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

// slurp is os.ReadFile without the support of the poller, which took most of the time
// of a read, and in mode exec a third of the sidecar's time, since children are listed
// after every task. It appends to buf.
func slurp(path string, buf []byte) ([]byte, error) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return buf, err
	}
	defer unix.Close(fd)
	for {
		buf = slices.Grow(buf, 512)
		n, err := retry(func() (int, error) { return unix.Read(fd, buf[len(buf):cap(buf)]) })
		if err != nil || n == 0 {
			return buf, err
		}
		buf = buf[:len(buf)+n]
	}
}

// entries returns the contents of a folder, or nothing if it cannot be read.
func entries(path string) (names []string) {
	fd, err := retry(func() (int, error) { return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0) })
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var buf [4096]byte
	for {
		n, err := retry(func() (int, error) { return unix.ReadDirent(fd, buf[:]) })
		if err != nil || n <= 0 {
			return names
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names)
	}
}

func retry(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

// childrenByStat is for kernels without lists of children (CONFIG_PROC_CHILDREN). It
// reads the parent of every process.
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

// stat reads the parent and the state of a process.
func stat(pid int) (parent int, now state) {
	var room [1024]byte
	text, err := slurp("/proc/"+strconv.Itoa(pid)+"/stat", room[:0])
	if err != nil {
		return 0, gone
	}
	// The name is in brackets and may contain any text; state and parent follow it.
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

// hasEntry reports whether a process was started with an entry (NAME=value) in its
// environment. A process without an environment may be in the middle of an execve, or
// dying.
func hasEntry(pid int, entry string) answer {
	env, err := slurp("/proc/"+strconv.Itoa(pid)+"/environ", nil)
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

// settledChildren returns the children exactly: the kernel's list may miss some while
// others are being reaped.
func settledChildren(of string) []int {
	return settled(func() []int { return children(of) })
}

func settled(list func() []int) []int {
	const most = 5
	last := list()
	for range most {
		next := list()
		if slices.Equal(last, next) {
			break
		}
		last = next
	}
	return last
}

// handle identifies a process by more than its number, which another process may get
// once it is reaped.
type handle struct{ pid, fd int }

// state is the state of a process.
type state int

const (
	gone    state = iota // or the child of another process
	dead                 // and not reaped
	running              // or dying
)

// hold returns a handle of a running child of parent.
func hold(pid int, parent handle) (handle, state) {
	fd, err := unix.PidfdOpen(pid, 0)
	switch {
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
		fd = -1 // an old kernel, or a system call filter without this call
	case err != nil:
		return handle{}, gone
	}
	h := handle{pid, fd}
	of, now := stat(pid) // after the handle was opened
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
