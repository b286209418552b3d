// Package reaper makes the process the parent of its orphans and reaps them: a
// worker's process that outlives the one that started it becomes a child of ours
// and not of init, and would stay a zombie when it ends.
//
// Being a child subreaper belongs to the whole process, and so does what this
// package keeps: the children that are waited for. Every child that this module
// starts is claimed, by [Start], [Fork] or [Claim], until [Release]; the reaper reaps
// unclaimed children only, by their ids, and never takes an exit status from
// under os/exec.
package reaper

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
)

// ErrNotOurs is the error of [Claim] for a process that is no child of this one, or
// that is claimed already.
var ErrNotOurs = errors.New("is no unclaimed child of this process")

// claims holds the children that are waited for. Between the fork of a child and
// its claim the child looks like an orphan. So every caller that may start such a
// child takes a ticket before and gives it back after; an ended, unclaimed child is
// an orphan once every ticket is back that was out when it was first seen.
type claims struct {
	mu      sync.Mutex
	claimed map[int]int // by pid; counted, since a number may be reused before its first owner says that it is done
	tickets map[uint64]struct{}
	next    uint64
	seen    map[int]uint64 // ended and unclaimed, with the next ticket of that moment
	kick    chan struct{}  // one token: the reaper should look again
	reaper  *Reaper        // that has begun
}

var family = claims{
	claimed: make(map[int]int), tickets: make(map[uint64]struct{}), seen: make(map[int]uint64),
	kick: make(chan struct{}, 1),
}

// Start starts a command and claims its process. Call [Release] when it has been
// waited for. It may be called concurrently.
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

// Expect announces a child that is not made by [Start] or [Fork], such as the one that a
// fork server makes: until done is called no orphan is reaped that ends from now
// on, so that the child can be claimed even when it has ended by then. done may
// be called more than once.
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

// Claim takes over an orphan: from now on the caller waits for it, by its id, and
// calls [Release] then. The process may have ended already if it was expected.
// It fails with [ErrNotOurs] where it is not our child: the process between may
// still be there.
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

// orphansLocked returns those of the ended and unclaimed children that no caller is
// going to claim.
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
