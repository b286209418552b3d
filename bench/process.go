package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// subject is a process, with its children, that is measured.
type subject struct {
	cmd  *exec.Cmd
	log  bytes.Buffer
	done chan struct{}
}

// start runs a command with our environment, without anything that would set it
// up by accident, and then env.
func start(env []string, command ...string) (*subject, error) {
	s := &subject{cmd: exec.Command(command[0], command[1:]...), done: make(chan struct{})}
	for _, kv := range os.Environ() {
		if !strings.HasPrefix(kv, "REDIS") && !strings.HasPrefix(kv, "SIDECAR_") {
			s.cmd.Env = append(s.cmd.Env, kv)
		}
	}
	s.cmd.Env = append(s.cmd.Env, env...)
	s.cmd.Stdout, s.cmd.Stderr = &s.log, &s.log
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	s.cmd.WaitDelay = time.Second
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.done)
	}()
	return s, nil
}

// stop asks the process to end, and ends its group where it does not.
func (s *subject) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	patience := time.NewTimer(10 * time.Second)
	defer patience.Stop()
	select {
	case <-s.done:
	case <-patience.C:
	}
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	<-s.done
}

var errEnded = errors.New("the process that is measured has ended")

// explain adds the end of the process' log to an error.
func (s *subject) explain(err error) error {
	if err == nil {
		return nil
	}
	s.stop()
	text := s.log.String()
	return fmt.Errorf("%w\n%s", err, text[max(0, len(text)-2000):])
}

// usage is what a process and all that descend from it have used and hold.
type usage struct {
	cpu time.Duration
	rss int64
}

// used reads /proc. It counts a descendant that has ended only if its parent waited for it.
func (s *subject) used() usage {
	all := map[int][]int{}
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			if f := statFields(pid); len(f) > 21 {
				parent, _ := strconv.Atoi(f[1])
				all[parent] = append(all[parent], pid)
			}
		}
	}
	var sum usage
	var add func(pid int)
	add = func(pid int) {
		f := statFields(pid)
		if len(f) < 22 {
			return
		}
		for _, i := range []int{11, 12, 13, 14} { // utime stime cutime cstime
			n, _ := strconv.ParseInt(f[i], 10, 64)
			sum.cpu += time.Duration(n) * (time.Second / 100)
		}
		pages, _ := strconv.ParseInt(f[21], 10, 64)
		sum.rss += pages * int64(os.Getpagesize())
		for _, child := range all[pid] {
			add(child)
		}
	}
	add(s.cmd.Process.Pid)
	return sum
}

// own is used without descendants, and without those it has waited for.
func (s *subject) own() usage {
	f := statFields(s.cmd.Process.Pid)
	if len(f) < 22 {
		return usage{}
	}
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	pages, _ := strconv.ParseInt(f[21], 10, 64)
	return usage{time.Duration(user+system) * (time.Second / 100), pages * int64(os.Getpagesize())}
}

// statFields are those of /proc/PID/stat after the name: the state is first.
func statFields(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}

// sleep waits, unless ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// kill ends the process and what it started at once.
func (s *subject) kill() {
	_ = s.cmd.Process.Kill()
	<-s.done
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
}

// cpuNanoseconds is what the process' own threads have used, finer than the
// hundredths of a second in /proc/PID/stat.
func (s *subject) cpuNanoseconds() int64 { return processNanoseconds(s.cmd.Process.Pid) }

// processNanoseconds is that of any process.
func processNanoseconds(pid int) int64 {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	var sum int64
	for _, name := range threads {
		text, err := os.ReadFile(name)
		if fields := strings.Fields(string(text)); err == nil && len(fields) > 0 {
			n, _ := strconv.ParseInt(fields[0], 10, 64)
			sum += n
		}
	}
	return sum
}
