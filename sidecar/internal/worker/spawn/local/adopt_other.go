//go:build !linux

package local

import (
	"errors"
	"os"
)

// Adopt fails: only on Linux do orphans become children of the sidecar.
func Adopt(int, string, *os.File, *os.File, *os.File) (Process, error) {
	return nil, errors.ErrUnsupported
}
