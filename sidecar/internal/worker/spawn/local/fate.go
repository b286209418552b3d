package local

import (
	"fmt"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// SignalName returns the name of a signal, such as SIGKILL.
func SignalName(sig syscall.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	return fmt.Sprintf("signal %d", int(sig))
}

// fate describes how a process ended. sent says that the sidecar itself sent the signal
// that ended it. oom is called for a SIGKILL of unknown origin; peak is the peak memory
// of the process in bytes, 0 if unknown.
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

// verdict says whether a process was killed by the OOM killer.
type verdict int

const (
	verdictUnknown verdict = iota
	verdictNo
	verdictYes
)

// oomKills counts the processes of the control group that the OOM killer has killed,
// and assigns the kills to deaths. Its methods may be called concurrently.
type oomKills struct {
	read func() (int64, error) // reads the kernel's counter

	mu         sync.Mutex
	known      int64     // the last value of the counter
	counted    bool      // the counter was read
	unassigned int64     // kills without a death so far
	at         time.Time // the time of the newest of these
}

// oomMemory is how long a kill waits for its death to be noticed. A kill of a process
// that is not a child of the sidecar waits in vain.
const oomMemory = 5 * time.Second

// begin records the kills before the first process is started.
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
