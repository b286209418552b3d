//go:build unix

package conformance

import (
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// canSignal: the checks of signals can be made here.
const canSignal = true

// ownGroup gives the worker a session and so a process group, as the sidecar does:
// a signal and a kill then reach what it has started as well, and it has no
// terminal to ask for a password on.
func ownGroup(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }

// killGroup ends the worker and its children. It may come after the worker has
// been waited for: its number stays taken for as long as its group has members.
func killGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

// signalGroup signals the whole group, as a terminal's Ctrl-C (SIGINT) and the stop
// of a control group (SIGTERM) do.
func signalGroup(cmd *exec.Cmd, name string) error {
	switch name {
	case "SIGTERM":
		return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	case "SIGINT":
		return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT)
	default:
		return fmt.Errorf("no signal %s", name)
	}
}

// signalNames are those of signals that end workers. (The standard library has a
// description, "killed", and no name.)
var signalNames = map[syscall.Signal]string{
	syscall.SIGABRT: "SIGABRT", syscall.SIGBUS: "SIGBUS", syscall.SIGFPE: "SIGFPE", syscall.SIGHUP: "SIGHUP",
	syscall.SIGILL: "SIGILL", syscall.SIGINT: "SIGINT", syscall.SIGKILL: "SIGKILL", syscall.SIGPIPE: "SIGPIPE",
	syscall.SIGQUIT: "SIGQUIT", syscall.SIGSEGV: "SIGSEGV", syscall.SIGTERM: "SIGTERM",
}

// signalName is a signal's name, or else its description.
func signalName(sig syscall.Signal) string { return cmp.Or(signalNames[sig], sig.String()) }

// fate says how the worker ended.
func fate(state *os.ProcessState) string {
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return "was killed by " + signalName(ws.Signal())
	}
	return fmt.Sprintf("exited with status %d", state.ExitCode())
}
