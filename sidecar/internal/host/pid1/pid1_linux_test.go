package pid1_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/graflow/graflow-sidecar/sidecar/internal/host/pid1"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testpty"
)

// roleVariable makes this binary play the program that init runs; as process 1 it
// plays init.
const roleVariable = "PID1_TEST_ROLE"

func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	switch {
	case role == "":
		os.Exit(m.Run())
	case pid1.Needed():
		status, err := pid1.Run(os.Args, os.Environ())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(99)
		}
		os.Exit(status)
	}
	play(role)
}

func play(role string) {
	name, arg, _ := strings.Cut(role, " ")
	switch name {
	case "exit":
		status, _ := strconv.Atoi(arg)
		os.Exit(status)
	case "die":
		sig, _ := strconv.Atoi(arg)
		_ = syscall.Kill(os.Getpid(), syscall.Signal(sig))
		select {}
	case "show": // what it was given
		fmt.Println(os.Args[1:], os.Getpid(), os.Getenv("PID1_TEST_WORD"))
		_, _ = io.Copy(os.Stdout, os.Stdin)
	case "signals": // says each one; ends with SIGTERM
		signals := make(chan os.Signal, 16)
		signal.Notify(signals)
		fmt.Println("ready")
		for sig := range signals {
			switch sig {
			case syscall.SIGURG: // the Go runtime's own
			case syscall.SIGTERM:
				fmt.Println(sig)
				os.Exit(5)
			default:
				fmt.Println(sig)
			}
		}
	case "foreground": // says when the terminal is its own
		for {
			if group, err := unix.IoctlGetInt(0, unix.TIOCGPGRP); err != nil || group == unix.Getpgrp() {
				fmt.Println("foreground", err)
				os.Exit(0)
			}
			time.Sleep(time.Millisecond)
		}
	case "orphans": // leaves one that ends and one that does not
		cmd := exec.Command("/bin/sh", "-c", "true & setsid sleep 600 & exit 0")
		if err := cmd.Run(); err != nil {
			panic(err)
		}
		fmt.Println("left")
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "closes": // its descriptor 3
		_ = syscall.Close(3)
		fmt.Println("closed")
		_, _ = io.Copy(io.Discard, os.Stdin)
	}
	os.Exit(0)
}

// namespace starts this binary as process 1 of a PID namespace of its own.
func namespace(t *testing.T, role string, change func(*exec.Cmd)) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "an", "argument")
	cmd.Env = append(os.Environ(), roleVariable+"="+role, "PID1_TEST_WORD=xyzzy", "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	if os.Getuid() != 0 { // in a user namespace of its own it is root
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	}
	if change != nil {
		change(cmd)
	}
	err := cmd.Start()
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
		if os.Getenv("NEEDS_NAMESPACES") == "" {
			t.Skipf("this machine makes no PID namespace for us: %v", err)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	// A test that reads its output must not wait for ever.
	timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		timer.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// status waits for its end.
func status(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode()
}

func pipes(t *testing.T, cmd *exec.Cmd) (stdin io.WriteCloser, stdout *bufio.Reader) {
	t.Helper()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	return stdin, bufio.NewReader(out)
}

func wantLine(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	if line, err := r.ReadString('\n'); line != want+"\n" {
		t.Fatalf("it says %q (%v), want %q", line, err, want)
	}
}

func TestTheExitStatusIsTheChilds(t *testing.T) {
	for _, c := range []struct {
		role   string
		status int
	}{
		{"exit 0", 0},
		{"exit 7", 7},
		{"exit 78", 78},
		{"die 9", 137},
		{"die 15", 143},
		{"die 1", 129},
	} {
		if got := status(t, namespace(t, c.role, nil)); got != c.status {
			t.Errorf("%s: status %d, want %d", c.role, got, c.status)
		}
	}
}

func TestTheChildIsGivenEverything(t *testing.T) {
	var stdin io.WriteCloser
	var stdout *bufio.Reader
	cmd := namespace(t, "show", func(cmd *exec.Cmd) { stdin, stdout = pipes(t, cmd) })
	var pid int
	line, err := stdout.ReadString('\n')
	if n, _ := fmt.Sscanf(line, "[an argument] %d xyzzy", &pid); n != 1 || pid < 2 {
		t.Errorf("it was given %q (%v)", line, err)
	}
	fmt.Fprintln(stdin, "a line")
	wantLine(t, stdout, "a line")
	stdin.Close()
	if got := status(t, cmd); got != 0 {
		t.Errorf("status %d", got)
	}
}

func TestSignalsArePassedOn(t *testing.T) {
	var stdout *bufio.Reader
	cmd := namespace(t, "signals", func(cmd *exec.Cmd) { _, stdout = pipes(t, cmd) })
	wantLine(t, stdout, "ready")
	for _, sig := range []syscall.Signal{
		syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGTSTP, syscall.SIGCONT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGINT, syscall.SIGTERM,
	} {
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		wantLine(t, stdout, sig.String())
	}
	if got := status(t, cmd); got != 5 {
		t.Errorf("status %d, want the child's 5", got)
	}
}

// childrenOf are the states and names of a process's children.
func childrenOf(pid int) (states []string) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		text, _ := os.ReadFile(file)
		_, rest, _ := strings.Cut(string(text), "(")
		name, after, _ := strings.Cut(rest, ") ")
		if fields := strings.Fields(after); len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			states = append(states, fields[0]+" "+name)
		}
	}
	return states
}

// TestOrphansAreReapedAndTheRestIsKilled when the child has ended.
func TestOrphansAreReapedAndTheRestIsKilled(t *testing.T) {
	var stdin io.WriteCloser
	var stdout *bufio.Reader
	cmd := namespace(t, "orphans", func(cmd *exec.Cmd) { stdin, stdout = pipes(t, cmd) })
	wantLine(t, stdout, "left")
	deadline := time.Now().Add(10 * time.Second)
	for {
		children := strings.Join(childrenOf(cmd.Process.Pid), ", ")
		if strings.Contains(children, "sleep") && !strings.Contains(children, "Z ") {
			break // the one that ended is gone, the other one is here
		}
		if time.Now().After(deadline) {
			t.Fatalf("the children of init are: %s", children)
		}
		time.Sleep(2 * time.Millisecond)
	}
	stdin.Close()
	if got := status(t, cmd); got != 0 {
		t.Errorf("status %d", got)
	}
}

// TestInitKeepsNoDescriptorOpen: a parent that waits for the end of a pipe that it
// gave to the sidecar waits for the sidecar.
func TestInitKeepsNoDescriptorOpen(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var stdin io.WriteCloser
	var stdout *bufio.Reader
	cmd := namespace(t, "closes", func(cmd *exec.Cmd) {
		stdin, stdout = pipes(t, cmd)
		cmd.ExtraFiles = []*os.File{w}
	})
	w.Close()
	wantLine(t, stdout, "closed")
	_ = r.SetReadDeadline(time.Now().Add(10 * time.Second))
	if n, err := r.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("the pipe did not end while init lives: %v", err)
	}
	stdin.Close()
	if got := status(t, cmd); got != 0 {
		t.Errorf("status %d", got)
	}
}

// TestCtrlCComesOnce: the terminal sends it to the child, and init does not send
// it again.
func TestCtrlCComesOnce(t *testing.T) {
	master, slave := testpty.Open(t)
	cmd := namespace(t, "signals", func(cmd *exec.Cmd) {
		cmd.Stdin, cmd.Stdout = slave, slave
		cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	})
	slave.Close()
	out := bufio.NewReader(master)
	next := func() string {
		for {
			line, err := out.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			// The terminal shows what was typed, and two characters as the line's end.
			if line = strings.TrimLeft(strings.TrimSpace(line), "^CZ"); line != "" {
				return line
			}
		}
	}
	if got := next(); got != "ready" {
		t.Fatalf("it says %q", got)
	}
	for _, c := range []struct{ key, signal string }{{"\x03", "interrupt"}, {"\x1a", "stopped"}, {"\x03", "interrupt"}} {
		if _, err := io.WriteString(master, c.key); err != nil {
			t.Fatal(err)
		}
		if got := next(); got != c.signal {
			t.Errorf("after key %q it says %q, want %q", c.key, got, c.signal)
		}
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	if got := next(); got != "terminated" {
		t.Errorf("it says %q, want nothing between the last key and SIGTERM", got)
	}
	if got := status(t, cmd); got != 5 {
		t.Errorf("status %d", got)
	}
}

// TestTheTerminalIsTheChilds, which may read from it.
func TestTheTerminalIsTheChilds(t *testing.T) {
	master, slave := testpty.Open(t)
	cmd := namespace(t, "foreground", func(cmd *exec.Cmd) {
		cmd.Stdin, cmd.Stdout = slave, slave
		cmd.SysProcAttr.Setsid, cmd.SysProcAttr.Setctty = true, true
	})
	slave.Close()
	line, err := bufio.NewReader(master).ReadString('\n')
	if strings.TrimSpace(line) != "foreground <nil>" {
		t.Errorf("it says %q (%v)", line, err)
	}
	if got := status(t, cmd); got != 0 {
		t.Errorf("status %d", got)
	}
}
