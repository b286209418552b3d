//go:build !linux

package local

import (
	"errors"
	"syscall"
)

// memory has no counter: only Linux has control groups.
var memory = &oomKills{read: func() (int64, error) { return 0, errors.ErrUnsupported }}

// peakMemory returns 0: the unit differs between systems.
func peakMemory(*syscall.Rusage) int64 { return 0 }
