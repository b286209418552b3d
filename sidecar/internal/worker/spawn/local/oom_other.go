//go:build !linux

package local

import (
	"errors"
	"syscall"
)

// memory has no counter: only Linux has control groups.
var memory = &oomKills{read: func() (int64, error) { return 0, errors.ErrUnsupported }}

// peakMemory is not known: the unit differs from system to system.
func peakMemory(*syscall.Rusage) int64 { return 0 }
