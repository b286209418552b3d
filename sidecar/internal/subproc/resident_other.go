//go:build !linux

package subproc

import "errors"

// MeasuresMemory says whether Resident works on this system.
const MeasuresMemory = false

// Resident needs /proc.
func Resident(int) (int64, error) { return 0, errors.ErrUnsupported }
