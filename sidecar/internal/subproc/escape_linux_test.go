package subproc_test

import (
	"bufio"
	"context"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/graflow/graflow-sidecar/sidecar/internal/subproc"
)

// escaping starts a shell that leaves a process behind in a session of its own
// and then does as it is told.
func escaping(t *testing.T, then string, mark bool) (p subproc.Process, escapee int) {
	t.Helper()
	spawner := subproc.NewSpawner()
	t.Cleanup(spawner.Stop)
	cmd := exec.Command("/bin/sh", "-c", `setsid sh -c 'echo $$; exec sleep 600' & `+then)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
	if mark {
		cmd.Env = append(cmd.Env, subproc.IDVariable+"=inherited", subproc.IDVariable+"=w-0-"+t.Name())
	}
	p, err := spawner.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Stdin().Close()
		subproc.End(context.Background(), p, nil, 10*time.Millisecond)
		p.Stdout().Close()
		p.Stderr().Close()
	})
	line, err := bufio.NewReader(p.Stdout()).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if escapee, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatal(err)
	}
	return p, escapee
}

func runs(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}

// TestNothingOutlivesAProcess, however it ends: what has left its group is dead
// when Exited says so.
func TestNothingOutlivesAProcess(t *testing.T) {
	for _, c := range []struct{ name, then, fate string }{
		{"by itself", "read x; exit 3", "exited with status 3"},
		{"by SIGTERM", "exec sleep 600", "was killed by SIGTERM, sent by the sidecar"},
		{"by SIGKILL", "trap '' TERM; sleep 600", "was killed by SIGKILL, sent by the sidecar"},
	} {
		t.Run(c.name, func(t *testing.T) {
			begin(t)
			p, escapee := escaping(t, c.then, true)
			subproc.End(context.Background(), p, func() { p.Stdin().Close() }, 200*time.Millisecond)
			wantFate(t, p, c.fate)
			if runs(escapee) {
				t.Errorf("process %d, which left the group, outlived it", escapee)
			}
		})
	}
}

// TestWithoutAMarkOnlyTheGroupIsKilled: whose it was cannot be told then.
func TestWithoutAMarkOnlyTheGroupIsKilled(t *testing.T) {
	begin(t)
	p, escapee := escaping(t, "read x", false)
	p.Stdin().Close()
	wantFate(t, p, "exited with status 1")
	if !runs(escapee) {
		t.Error("somebody's process was killed")
	}
}

// TestAChildHasNoTerminal: it leads a session, which has none, whatever the sidecar's
// own has.
func TestAChildHasNoTerminal(t *testing.T) {
	spawner := subproc.NewSpawner()
	t.Cleanup(spawner.Stop)
	p, err := spawner.Start(exec.Command("/bin/sh", "-c", "read x; : </dev/tty"))
	if err != nil {
		t.Fatal(err)
	}
	if session, err := unix.Getsid(p.Pid()); err != nil || session != p.Pid() {
		t.Errorf("its session is %d (%v), and it is %d", session, err, p.Pid())
	}
	if group, err := unix.Getpgid(p.Pid()); err != nil || group != p.Pid() {
		t.Errorf("its process group is %d (%v), and it is %d", group, err, p.Pid())
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

// TestAProgramThatMakesADaemonOfItself is told apart from one that just ends.
func TestAProgramThatMakesADaemonOfItself(t *testing.T) {
	for _, c := range []struct {
		name, script string
		left         bool
	}{
		{"it ends", "sleep 0", false},
		{"in its group", "sleep 600 >&- 2>&- & exit 0", true},
		{"with its mark", "setsid sleep 600 >&- 2>&- & exit 0", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			begin(t)
			spawner := subproc.NewSpawner()
			t.Cleanup(spawner.Stop)
			cmd := exec.Command("/bin/sh", "-c", c.script)
			cmd.Env = []string{"PATH=" + os.Getenv("PATH"), subproc.IDVariable + "=w-0-" + t.Name()}
			p, err := spawner.Start(cmd)
			if err != nil {
				t.Fatal(err)
			}
			wantFate(t, p, "exited with status 0")
			if got := subproc.LeftBehind(p); got != c.left {
				t.Errorf("left behind: %t", got)
			}
			p.Stdin().Close()
			p.Stdout().Close()
			p.Stderr().Close()
		})
	}
}
