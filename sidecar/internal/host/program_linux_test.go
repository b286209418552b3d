package host

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const smaps = `00400000-00c62000 r-xp 00000000 fe:00 10724337                           /usr/bin/the sidecar
Size:               8584 kB
Rss:                7164 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
00c62000-01617000 r--p 00862000 fe:00 10724337                           /usr/bin/the sidecar
Anonymous:             4 kB
01617000-016db000 rw-p 01217000 fe:00 10724337                           /usr/bin/the sidecar
Anonymous:             0 kB
016db000-03721000 rw-p 00000000 00:00 0
Anonymous:           112 kB
0a000000-0b000000 r--p 00862000 fe:00 10724337                           /usr/bin/the sidecar
Anonymous:             0 kB
7f8d62800000-7f8d64800000 r--p 00000000 00:00 0                          /usr/bin/the sidecar2
Anonymous:             0 kB
7f8da9286000-7f8da9288000 r-xp 00000000 00:00 0                          [vdso]
Anonymous:             0 kB
`

// Not what may be written, what a debugger has changed, and what is another file's.
func TestOnlyTheProgramsOwnPagesAreGivenBack(t *testing.T) {
	want := []mapping{{0x400000, 0xc62000}, {0xa000000, 0xb000000}}
	if got := programMappings(strings.NewReader(smaps), "/usr/bin/the sidecar"); !slices.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

func TestTheProgramGoesOnWithoutItsPages(t *testing.T) {
	mapped := func() (kilobytes int) {
		text, err := os.ReadFile("/proc/self/smaps_rollup")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); f[0] == "Pss_File:" {
				kilobytes, _ = strconv.Atoi(f[1])
			}
		}
		return kilobytes
	}
	before := mapped()
	unmapProgram()
	if after := mapped(); after >= before {
		t.Errorf("%d kB of files were mapped, and %d after", before, after)
	}
}
