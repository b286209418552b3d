//go:build !linux

package host

import (
	"errors"
	"os"
)

// MemoryFile exists on Linux only.
func MemoryFile(string, []byte) (*os.File, error) { return nil, errors.ErrUnsupported }
