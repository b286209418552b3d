//go:build !unix

package conformance

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
)

// canSignal: a system without SIGTERM has no checks of it.
const canSignal = false

func ownGroup(*exec.Cmd) {}

func killGroup(cmd *exec.Cmd) { _ = cmd.Process.Kill() }

func signalGroup(*exec.Cmd, string) error { return errors.ErrUnsupported }

func fate(state *os.ProcessState) string {
	return fmt.Sprintf("exited with status %d", state.ExitCode())
}
