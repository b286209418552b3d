// Package reaper makes this process the parent of its orphans and reaps them: a process
// that outlives the worker that started it becomes a child of this process instead of
// init, and would remain a zombie when it ends.
//
// The role of child subreaper belongs to the whole process, and so does the state of
// this package: the children that are waited for. Every child that this module starts
// is claimed, by [Start], [Fork] or [Claim], until [Release]. The reaper reaps only
// unclaimed children, by their ids, and never takes an exit status from os/exec.
package reaper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// ErrNotOurs is the error of [Claim] for a process that is not a child of this process,
// or that is claimed already.
var ErrNotOurs = errors.New("is no unclaimed child of this process")

// claims are the children that are waited for. Between the fork of a child and its
// claim, the child looks like an orphan. Every caller that may start such a child
// therefore takes a ticket before and returns it afterwards; an ended, unclaimed child
// is an orphan once every ticket has been returned that was out when the child was
// first seen.
type claims struct {
	mu      sync.Mutex
	claimed map[int]int // by pid; a count, since a number may be reused before its first owner releases it
	tickets map[uint64]struct{}
	next    uint64
	seen    map[int]uint64 // ended and unclaimed, with the next ticket at that time
	kick    chan struct{}  // one token: the reaper should check again
	reaper  *Reaper        // the Reaper that has begun
}

var family = claims{
	claimed: make(map[int]int), tickets: make(map[uint64]struct{}), seen: make(map[int]uint64),
	kick: make(chan struct{}, 1),
}

// Start starts a command and claims its process. [Release] must be called when it has
// been waited for. It may be called concurrently.
func Start(cmd *exec.Cmd) error {
	defer Expect()()
	if err := cmd.Start(); err != nil {
		return err
	}
	family.claim(cmd.Process.Pid)
	return nil
}

// Fork is [Start] without os/exec: it starts a program with the descriptors and the
// environment of attr, and claims its process.
func Fork(path string, args []string, attr *syscall.ProcAttr) (pid int, err error) {
	defer Expect()()
	pid, _, err = syscall.StartProcess(path, args, attr)
	if err != nil {
		return 0, &os.PathError{Op: "fork/exec", Path: path, Err: err}
	}
	family.claim(pid)
	return pid, nil
}

// Expect announces a child that is not made by [Start] or [Fork], such as a worker of a
// fork server. Until done is called, no orphan is reaped that ends from now on, so that
// the child can be claimed even if it has ended by then. done may be called more than
// once.
func Expect() (done func()) {
	f := &family
	f.mu.Lock()
	defer f.mu.Unlock()
	ticket := f.next
	f.next++
	f.tickets[ticket] = struct{}{}
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.tickets, ticket)
		if len(f.seen) > 0 {
			f.wake()
		}
	}
}

// Claim claims an orphan: the caller waits for it, by its id, and then calls [Release].
// The process may have ended already if it was expected. It fails with [ErrNotOurs] if
// the process is not a child of this process, for example because the process between
// them is still there.
func Claim(pid int) error {
	f := &family
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.claimed[pid] > 0 || !isChild(pid) {
		return fmt.Errorf("process %d %w", pid, ErrNotOurs)
	}
	f.claimed[pid]++
	delete(f.seen, pid)
	return nil
}

// Release ends a claim, after the process was waited for.
func Release(pid int) {
	f := &family
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.claimed[pid]--; f.claimed[pid] <= 0 {
		delete(f.claimed, pid)
	}
}

func (f *claims) setReaper(r *Reaper) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reaper = r
}

func (f *claims) claim(pid int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.claimed[pid]++
	delete(f.seen, pid)
}

// orphansLocked returns the ended, unclaimed children that no caller will claim.
func (f *claims) orphansLocked(ended []int) (orphans []int) {
	oldest := f.next
	for ticket := range f.tickets {
		oldest = min(oldest, ticket)
	}
	still := make(map[int]uint64, len(ended))
	for _, pid := range ended {
		since, known := f.seen[pid]
		switch {
		case known && since <= oldest, !known && len(f.tickets) == 0:
			orphans = append(orphans, pid)
		case known:
			still[pid] = since
		default:
			still[pid] = f.next
		}
	}
	f.seen = still
	return orphans
}

func (f *claims) wake() {
	select {
	case f.kick <- struct{}{}:
	default:
	}
}
