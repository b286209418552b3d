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

// memory is that of the control group of this process, which its children share.
var memory = &oomKills{read: controlGroup{root: "/sys/fs/cgroup", self: "/proc/self/cgroup"}.oomKills}

// controlGroup is where the kernel shows a control group of this process.
type controlGroup struct {
	root string // where the file systems of control groups are mounted
	self string // the file that says which group this process is in
}

// oomKills is how many processes of the group the kernel has killed for want of
// memory so far. It fails where the group cannot be read, or is the root, which
// has no counter in version 2.
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
		// In a container the path may be the host's, and the mount the group itself.
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

// peakMemory is the most memory that a process took, in bytes, or 0: a child begins
// with what its parent had, so less than the sidecar's own peak says nothing.
func peakMemory(usage *syscall.Rusage) int64 {
	var own syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &own) != nil || usage.Maxrss <= own.Maxrss {
		return 0
	}
	return usage.Maxrss << 10 // it is in KiB
}
