//go:build !linux

// Package pid1 is the init of a container, which exists on Linux only.
package pid1

import "errors"

// Needed reports false.
func Needed() bool { return false }

// Run fails.
func Run([]string, []string) (int, error) { return 0, errors.ErrUnsupported }
