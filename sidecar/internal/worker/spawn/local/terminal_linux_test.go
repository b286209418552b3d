package local_test

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testpty"
)

// terminalVariable says whether the process of TestAChildHasNoTerminal has a terminal.
const terminalVariable = "SUBPROC_TEST_TERMINAL"

// TestAChildHasNoTerminal: whether or not the process that starts it has one.
func TestAChildHasNoTerminal(t *testing.T) {
	if has := os.Getenv(terminalVariable); has != "" {
		wantNoTerminal(t, has == "one")
		return
	}
	for _, has := range []string{"none", "one"} {
		t.Run(has, func(t *testing.T) {
			cmd := exec.Command("/proc/self/exe", "-test.run=^TestAChildHasNoTerminal$", "-test.v")
			cmd.Env = append(os.Environ(), terminalVariable+"="+has)
			cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			if has == "one" {
				_, slave := testpty.Open(t)
				defer slave.Close()
				cmd.Stdin = slave
				cmd.SysProcAttr.Setctty = true
			}
			if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestAChildHasNoTerminal") {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func wantNoTerminal(t *testing.T, ours bool) {
	t.Helper()
	spawner := local.NewSpawner()
	t.Cleanup(spawner.Stop)
	if tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); (err == nil) != ours {
		t.Fatalf("this process has a terminal: %v", err)
	} else if err == nil {
		tty.Close()
	}
	p, err := spawner.Start(exec.Command("/bin/sh", "-c", "read x; : </dev/tty"))
	if err != nil {
		t.Fatal(err)
	}
	if group, err := unix.Getpgid(p.Pid()); err != nil || group != p.Pid() {
		t.Errorf("its process group is %d (%v), and it is %d", group, err, p.Pid())
	}
	if session, err := unix.Getsid(p.Pid()); err != nil || ours && session != p.Pid() {
		t.Errorf("its session is %d (%v), and it is %d", session, err, p.Pid())
	}
	p.Stdin().Close()
	words, _ := io.ReadAll(p.Stderr())
	if !strings.Contains(string(words), "/dev/tty") {
		t.Errorf("it could open /dev/tty; it said %q", words)
	}
	<-p.Exited()
	p.Stdout().Close()
	p.Stderr().Close()
}
