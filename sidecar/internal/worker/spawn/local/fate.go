package local

import (
	"fmt"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// SignalName is the name of a signal as people write it: SIGKILL.
func SignalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(sig))
}

// fate says in words how a process ended. sent says that the sidecar itself sent
// the signal that ended it. oom is asked about a SIGKILL of unknown origin; peak is
// the most memory that the process took, in bytes, 0 where that is not known.
func fate(status syscall.WaitStatus, sent bool, oom func() verdict, peak int64) string {
	if !status.Signaled() {
		return fmt.Sprintf("exited with status %d", status.ExitStatus())
	}
	text := "was killed by " + SignalName(status.Signal())
	switch {
	case sent:
		return text + ", sent by the sidecar"
	case status.Signal() != syscall.SIGKILL:
		return text
	}
	switch oom() {
	case verdictYes:
		text += " (out of memory)"
	case verdictUnknown:
		text += " (out of memory?)"
	case verdictNo:
	}
	if peak > 0 {
		text += fmt.Sprintf("; it took %d MiB of memory at most", (peak+1<<20-1)>>20)
	}
	return text
}

// verdict is whether a process was killed for want of memory.
type verdict int

const (
	verdictUnknown verdict = iota
	verdictNo
	verdictYes
)

// oomKills counts the processes of the control group that the kernel has killed for
// want of memory, and assigns them to the deaths that are seen. Its methods may be
// called concurrently.
type oomKills struct {
	read func() (int64, error) // the kernel's counter

	mu         sync.Mutex
	known      int64     // the counter when it was read last
	counted    bool      // it was
	unassigned int64     // kills that no death was seen for yet
	at         time.Time // of the newest of these
}

// oomMemory is how long a kill waits for its death to be seen. A kill of a process
// that is no child of the sidecar waits in vain.
const oomMemory = 5 * time.Second

// begin notes the kills so far. Before the first process is started.
func (k *oomKills) begin() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.counted {
		n, err := k.read()
		k.known, k.counted = n, err == nil
	}
}

// died judges a death by SIGKILL.
func (k *oomKills) died() verdict {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.counted {
		return verdictUnknown
	}
	n, err := k.read()
	if err != nil {
		return verdictUnknown
	}
	if time.Since(k.at) > oomMemory {
		k.unassigned = 0
	}
	if n > k.known {
		k.unassigned += n - k.known
		k.at = time.Now()
	}
	k.known = n
	if k.unassigned == 0 {
		return verdictNo
	}
	k.unassigned--
	return verdictYes
}
