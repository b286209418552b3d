//go:build !linux

package main

import (
	"errors"
	"os"
)

// memoryFile exists on Linux only.
func memoryFile(string, []byte) (*os.File, error) { return nil, errors.ErrUnsupported }
