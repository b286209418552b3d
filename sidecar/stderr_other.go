//go:build !linux

package main

// unblockStderr does nothing: a standard error cannot be opened again here.
func unblockStderr() {}
