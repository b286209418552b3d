package host

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// unmapProgram takes the program's own pages out of this process' page tables. A
// start calls a little of almost everything, and each call maps 64 KiB around it:
// 16 of an idle sidecar's 20 MB were that. What is called again is mapped again
// from the page cache, at a microsecond for each 64 KiB. It is what the kernel does
// itself when memory is short. Where /proc does not tell, nothing is done.
func unmapProgram() {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return
	}
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return
	}
	defer smaps.Close()
	for _, m := range programMappings(smaps, program) {
		// One that is locked is refused, and stays.
		_, _, _ = unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED)
	}
}

type mapping struct{ from, to uintptr }

// programMappings are those that are nothing but the program's file: not
// writable, and with no page that somebody has changed (a debugger's breakpoint,
// say, which would be lost).
func programMappings(smaps io.Reader, program string) (list []mapping) {
	var now mapping
	its := false // now is one of the program's
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) >= 5 && strings.Contains(fields[0], "-"):
			_, err := fmt.Sscanf(fields[0], "%x-%x", &now.from, &now.to)
			_, path, _ := strings.Cut(lines.Text(), "/")
			its = err == nil && strings.HasPrefix(fields[1], "r-") && strings.HasSuffix(fields[1], "p") && "/"+path == program
		case its && len(fields) >= 2 && fields[0] == "Anonymous:":
			if fields[1] == "0" {
				list = append(list, now)
			}
			its = false
		}
	}
	return list
}
