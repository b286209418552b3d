package local

import (
	"fmt"
	"os"
)

// MeasuresMemory says whether Resident works on this system.
const MeasuresMemory = true

// Resident returns the resident memory of a process in bytes, without that of its
// children.
func Resident(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	var size, resident int64 // in pages; the other fields are not used
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		return 0, fmt.Errorf("read the memory of process %d: %w", pid, err)
	}
	return resident * int64(os.Getpagesize()), nil
}
