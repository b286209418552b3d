//go:build !linux

package local

import "errors"

// MeasuresMemory says whether Resident works on this system.
const MeasuresMemory = false

// Resident fails: it needs /proc.
func Resident(int) (int64, error) { return 0, errors.ErrUnsupported }
