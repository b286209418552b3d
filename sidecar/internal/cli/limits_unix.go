//go:build unix

package cli

import (
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// What a slot needs at most: pipes for a worker and its successor, and room for
// what a worker starts itself.
const (
	filesEach, filesBase         = 16, 128
	processesEach, processesBase = 8, 32
	pipeBuffer                   = 64 << 10 // of each direction
)

// lookAtLimits judges what this machine, user and container allow for so many
// slots.
func lookAtLimits(f *findings, slots int) {
	var files unix.Rlimit
	need := uint64(filesBase + filesEach*slots)
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		f.add("files", unknown, "ulimit -n says it", "%v", err)
	} else if files.Cur < need {
		f.add("files", bad, "raise ulimit -n (LimitNOFILE= of systemd, --ulimit nofile of docker)", "%d open files are allowed, and %d slots may need %d", files.Cur, slots, need)
	} else {
		f.add("files", fine, "", "%s open files are allowed", limit(files.Cur))
	}
	most, from := processLimit()
	need = uint64(processesBase + processesEach*slots)
	if most < need {
		f.add("processes", bad, "raise ulimit -u, or the container's limit (--pids-limit, podPidsLimit)", "%d processes are allowed by %s, and %d slots may need %d", most, from, slots, need)
	} else {
		f.add("processes", fine, "", "%s processes are allowed", limit(most))
	}
	if soft, ok := fileNumber("/proc/sys/fs/pipe-user-pages-soft"); ok && os.Geteuid() != 0 && soft > 0 {
		want := uint64(slots) * 3 * pipeBuffer / uint64(os.Getpagesize())
		if soft < want {
			f.add("pipes", warning, "raise fs.pipe-user-pages-soft: beyond it each pipe has one page, and large messages take longer", "%d pages for pipes are allowed to a user, and %d slots use up to %d", soft, slots, want)
			return
		}
	}
	f.add("pipes", fine, "", "there is room for the pipes of %d slots", slots)
}

const unlimited = ^uint64(0)

// processLimit is the least of the limits that hold here.
func processLimit() (uint64, string) {
	most, from := unlimited, "nothing"
	var r unix.Rlimit
	if unix.Getrlimit(rlimitProcesses, &r) == nil && os.Geteuid() != 0 { // root is not held to it
		most, from = r.Cur, "ulimit -u"
	}
	for _, path := range []string{"/sys/fs/cgroup/pids.max", "/sys/fs/cgroup/pids/pids.max"} {
		if n, ok := fileNumber(path); ok && n < most {
			most, from = n, path
		}
	}
	return most, from
}

// fileNumber reads a number out of /proc or /sys; false for a file that has none.
func fileNumber(path string) (uint64, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}

func limit(n uint64) string {
	if n >= 1<<62 {
		return "any number of"
	}
	return strconv.FormatUint(n, 10)
}
