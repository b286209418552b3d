package reaper

import (
	"errors"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// stopGrace is how long the remaining processes may take to die at the end.
const stopGrace = 2 * time.Second

// End kills the orphans that have an entry (NAME=value) in their environment, and
// everything that they have started. It returns when they are dead, or after limit,
// since the kernel cannot kill some processes. It is for processes that a worker leaves
// behind outside its group. It also waits for the members of group, which the caller
// has killed already, and does not count them in the log. It does nothing if no
// [Reaper] has begun. It may be called concurrently.
func End(entry string, group int, limit time.Duration) {
	family.mu.Lock()
	r := family.reaper
	family.mu.Unlock()
	if r == nil || r.roll.isEmpty() {
		return
	}
	killed, left := r.end(func(pid int) answer { return hasEntry(pid, entry) }, group, limit)
	r.tell(killed, left, "mark", entry)
}

// HasLeft reports whether a process that has ended and is not reaped has left running
// processes behind: orphans of its group, or with an entry (NAME=value) in their
// environment. It is false if no [Reaper] has begun. It may be called concurrently.
func HasLeft(entry string, of int) bool {
	family.mu.Lock()
	r := family.reaper
	family.mu.Unlock()
	if r == nil || r.roll.isEmpty() {
		return false
	}
	for _, pid := range family.unclaimed() {
		if _, now := stat(pid); now == running && (group(pid) == of || hasEntry(pid, entry) == yes) {
			return true
		}
	}
	return false
}

func (r *Reaper) tell(killed, left int, attrs ...any) {
	if killed > 0 {
		r.log.Info("leftover processes of a worker killed", append(attrs, "processes", killed)...)
	}
	if left > 0 {
		r.log.Warn("leftover processes of a worker cannot be killed", append(attrs, "processes", left)...)
	}
}

// end kills in rounds until no process matches, no process has moved meanwhile, and the
// killed processes are dead. After a kill that takes two rounds: the child of a process
// that was killed in the middle of its fork is in no list for a moment, and one hunt in
// fifty left it behind.
func (r *Reaper) end(match func(pid int) answer, group int, limit time.Duration) (killed, left int) {
	deadline := time.Now().Add(limit)
	wait := time.Millisecond
	h := hunt{
		match: match, group: group, ended: make(map[int]bool), prey: make(map[int]handle),
		members: make(map[int]bool), refused: make(map[int]bool), blank: make(map[int]int),
	}
	defer h.release()
	for quiet := 0; ; {
		if h.round() {
			quiet = 0
		} else if quiet++; quiet == 2 || !h.found {
			return h.killed, len(h.prey)
		}
		if time.Now().After(deadline) {
			return h.killed, len(h.prey)
		}
		timer := time.NewTimer(wait)
		<-timer.C
		wait = min(2*wait, 20*time.Millisecond)
	}
}

// hunt is the state of one call of end.
type hunt struct {
	match   func(pid int) answer
	group   int
	ended   map[int]bool   // dead children
	prey    map[int]handle // the processes to kill
	members map[int]bool   // of these, the members of the group
	refused map[int]bool   // and those that the sidecar may not kill
	blank   map[int]int    // how often a process had no environment
	moved   bool           // the tree changed during this round
	found   bool           // a process matched in any round

	killed int
}

// round kills each matching process once, and reports whether there has to be another
// round.
func (h *hunt) round() (again bool) {
	h.moved = false
	self := handle{os.Getpid(), -1}
	for _, pid := range family.unclaimed() {
		h.visit(pid, self, false)
	}
	waiting := false
	for pid, prey := range h.prey {
		switch {
		case prey.ended():
			prey.release()
			delete(h.prey, pid)
			if !h.members[pid] {
				h.killed++
			}
		case !h.refused[pid]:
			waiting = true
		}
	}
	return h.moved || waiting
}

// visit kills a running orphan if it matches, and all processes below it. It also
// searches below the others: a process that has left its parent may still be the
// grandchild of another orphan.
func (h *hunt) visit(pid int, parent handle, doomed bool) {
	p, fate := hold(pid, parent)
	switch {
	case fate == running:
	case fate == dead && h.ended[pid]:
		return
	default: // its children have another parent now
		h.ended[pid] = fate == dead
		h.moved = true
		return
	}
	// A dying member of the group may have no environment any more.
	member := h.group > 0 && group(pid) == h.group
	_, known := h.prey[pid]
	doomed = doomed || known || member || h.matches(pid)
	for _, child := range settledChildren(strconv.Itoa(pid)) {
		h.visit(child, p, doomed)
	}
	if known || !doomed {
		p.release()
		return
	}
	// Once is enough; without a pidfd a second kill might hit another process.
	h.refused[pid] = errors.Is(p.kill(), unix.EPERM) // it runs as another user
	h.prey[pid], h.members[pid], h.found = p, member, true
}

// matches reports whether a process has the mark. It reads the environment again for a
// process that is in the middle of an execve, a bounded number of times, since some
// processes have no environment.
func (h *hunt) matches(pid int) bool {
	const most = 3
	got := h.match(pid)
	if got == unsure && h.blank[pid] < most {
		h.blank[pid]++
		h.moved = true
	}
	return got == yes
}

func group(pid int) int {
	id, err := unix.Getpgid(pid)
	if err != nil {
		return -1
	}
	return id
}

func (h *hunt) release() {
	for _, p := range h.prey {
		p.release()
	}
}

func (f *claims) unclaimed() (pids []int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, pid := range settled(adopted) {
		if f.claimed[pid] == 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}
