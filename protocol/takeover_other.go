//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package protocol

import (
	"os"
	"os/signal"
)

// takeOver moves stdin and stdout away from the rest of the program (P14). On
// this system that covers what goes through package os, not what C code or a
// child process writes to the descriptors themselves.
func takeOver() (in, out *os.File, err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, nil, err
	}
	in, out = os.Stdin, os.Stdout
	os.Stdin, os.Stdout = null, os.Stderr
	return in, out, nil
}

// watchSignals catches what would otherwise end the program in mid-task (P40).
func watchSignals() (signals <-chan os.Signal, stop func()) {
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt)
	return c, func() { signal.Stop(c) }
}
