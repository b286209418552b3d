package local

import (
	"bufio"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// memory is the control group of this process, which its children share.
var memory = &oomKills{read: controlGroup{root: "/sys/fs/cgroup", self: "/proc/self/cgroup"}.oomKills}

// controlGroup is where the kernel shows the control group of this process.
type controlGroup struct {
	root string // where the file systems of control groups are mounted
	self string // the file with the name of the group of this process
}

// oomKills returns the number of processes of the group that the OOM killer has killed.
// It fails if the group cannot be read, or is the root, which has no counter in version
// 2.
func (g controlGroup) oomKills() (int64, error) {
	text, err := os.ReadFile(g.self)
	if err != nil {
		return 0, err
	}
	var files []string
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		// In a container the path may be that of the host, and the mount the group itself.
		switch {
		case fields[0] == "0" && fields[1] == "": // version 2
			files = append(files, filepath.Join(g.root, fields[2], "memory.events"), filepath.Join(g.root, "memory.events"))
		case strings.Contains(","+fields[1]+",", ",memory,"):
			base := filepath.Join(g.root, "memory")
			files = append(files, filepath.Join(base, fields[2], "memory.oom_control"), filepath.Join(base, "memory.oom_control"))
		}
	}
	for _, name := range files {
		if n, err := counter(name, "oom_kill"); err == nil {
			return n, nil
		}
	}
	return 0, errors.New("no counter of processes that were killed for want of memory")
}

// counter reads a line "name number" of a file.
func counter(file, name string) (int64, error) {
	f, err := os.Open(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			return strconv.ParseInt(value, 10, 64)
		}
	}
	return 0, errors.Join(lines.Err(), os.ErrNotExist)
}

// peakMemory returns the peak memory of a process in bytes, or 0. A child begins with
// the memory of its parent, so that less than the sidecar's own peak says nothing.
func peakMemory(usage *syscall.Rusage) int64 {
	var own syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &own) != nil || usage.Maxrss <= own.Maxrss {
		return 0
	}
	return usage.Maxrss << 10 // Maxrss is in KiB
}
