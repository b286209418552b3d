package reaper

import (
	"errors"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// stopGrace is how long what is left at the end may take to die.
const stopGrace = 2 * time.Second

// End kills the orphans that have an entry (NAME=value) in their environment, and
// everything that those have started, and returns when they are dead, or after
// limit: one that the kernel cannot kill is not waited for any longer. It is for
// what a process leaves behind outside its group; members of group, which the
// caller has killed already, are waited for and not counted in the log.
// Nothing happens where no [Reaper] has begun. It may be called concurrently.
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

// HasLeft reports whether a process that has ended and was not waited for yet has
// left running processes behind: orphans of its group, or with an entry (NAME=value)
// in their environment. It is false where no [Reaper] has begun. It may be called
// concurrently.
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

// end kills in rounds until nothing is found that matches, nothing has moved
// meanwhile, and what was killed is dead. Where something was killed that takes
// two rounds: the child of a process that was killed in the middle of its fork is
// in no list for a moment, and one hunt in fifty left it behind.
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

// hunt is one call of end.
type hunt struct {
	match   func(pid int) answer
	group   int
	ended   map[int]bool   // children seen dead
	prey    map[int]handle // running when they were found
	members map[int]bool   // of these, the members of the group
	refused map[int]bool   // and those that may not be killed
	blank   map[int]int    // how often a process had no environment
	moved   bool           // the tree changed while this round looked at it
	found   bool           // something that matches, in any round

	killed int
}

// round kills what it finds, once each, and reports whether there has to be another one.
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

// visit takes hold of a running orphan if it matches, and of all below it. It
// looks below the others, too: a process that has left its parent may still be the
// grandchild of another orphan.
func (h *hunt) visit(pid int, parent handle, doomed bool) {
	p, fate := hold(pid, parent)
	switch {
	case fate == running:
	case fate == dead && h.ended[pid]:
		return
	default: // its children are somewhere else now
		h.ended[pid] = fate == dead
		h.moved = true
		return
	}
	// One of the group may be past the point where it has an environment.
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
	// Once is enough, and without a pidfd more would be a risk.
	h.refused[pid] = errors.Is(p.kill(), unix.EPERM) // it has another user's rights
	h.prey[pid], h.members[pid], h.found = p, member, true
}

// matches looks again at a process that is in the middle of an execve, and in
// vain at one that has no environment at all.
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
