package local_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/reaper"
)

// foster is an orphan with pipes, like the worker of a fork server.
type foster struct {
	pid                   int
	stdin, stdout, stderr *os.File
}

// orphan forks twice: the shell between starts a process that leads a group of its own,
// prints its id and ends.
func orphan(t *testing.T, script string) foster {
	t.Helper()
	var theirs, ours [3]*os.File
	for i := range theirs {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if theirs[i], ours[i] = w, r; i == 0 {
			theirs[i], ours[i] = r, w
		}
		t.Cleanup(func() { r.Close(); w.Close() })
	}
	cmd := exec.Command("/bin/sh", "-c", `exec 4<&0; setsid sh -c "$0" <&4 >&3 3>&- 4<&- & echo $!`, script)
	cmd.Stdin, cmd.ExtraFiles = theirs[0], []*os.File{theirs[1]}
	cmd.Stderr = os.Stderr
	said, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := reaper.Start(cmd); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(said).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	reaper.Release(cmd.Process.Pid)
	for _, f := range theirs {
		f.Close()
	}
	for { // until it leads its group, or has ended
		group, err := syscall.Getpgid(pid)
		if err != nil || group == pid {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return foster{pid, ours[0], ours[1], ours[2]}
}

func begin(t *testing.T) {
	t.Helper()
	t.Cleanup(func() { goleak.VerifyNone(t) })
	r, err := reaper.Begin(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
}

func adopt(t *testing.T, f foster) local.Process {
	t.Helper()
	p, err := local.Adopt(f.pid, "", f.stdin, f.stdout, f.stderr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Signal(syscall.SIGKILL)
		<-p.Exited()
	})
	return p
}

func wantFate(t *testing.T, p local.Process, fate string) {
	t.Helper()
	if !local.Within(p.Exited(), 10*time.Second) {
		t.Fatal("it does not end")
	}
	if got := p.Fate(); got != fate {
		t.Errorf("it %s, want it %s", got, fate)
	}
}

func TestAnAdoptedProcessIsLikeOurOwn(t *testing.T) {
	begin(t)
	p := adopt(t, orphan(t, `read x; echo "got $x"; exit $x`))
	if _, err := io.WriteString(p.Stdin(), "42\n"); err != nil {
		t.Fatal(err)
	}
	if out, err := io.ReadAll(p.Stdout()); string(out) != "got 42\n" {
		t.Errorf("it wrote %q (%v)", out, err)
	}
	wantFate(t, p, "exited with status 42")
}

// TestEndEndsAnAdoptedProcess: End ends it together with its group.
func TestEndEndsAnAdoptedProcess(t *testing.T) {
	begin(t)
	p := adopt(t, orphan(t, `trap '' TERM; sleep 600 & echo $!; wait; wait`))
	line, err := bufio.NewReader(p.Stdout()).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	grandchild, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		t.Fatal(err)
	}
	local.End(context.Background(), p, func() { p.Stdin().Close() }, 50*time.Millisecond)
	wantFate(t, p, "was killed by SIGKILL, sent by the sidecar")
	for syscall.Kill(grandchild, 0) == nil { // until the reaper has reaped it
		time.Sleep(time.Millisecond)
	}
}

// TestAProcessThatDiesBeforeItIsAdopted: its exit status is kept until then.
func TestAProcessThatDiesBeforeItIsAdopted(t *testing.T) {
	begin(t)
	done := reaper.Expect()
	defer done()
	f := orphan(t, `read x; exit 9`) // not before the end of its parent, which would wait for it
	f.stdin.Close()
	if out, err := io.ReadAll(f.stdout); err != nil || len(out) > 0 {
		t.Errorf("it wrote %q (%v)", out, err)
	}
	p := adopt(t, f)
	done()
	wantFate(t, p, "exited with status 9")
}

func TestAdoptTakesOnlyOrphans(t *testing.T) {
	begin(t)
	f := orphan(t, `read x`)
	p := adopt(t, f)
	for _, pid := range []int{f.pid, os.Getppid()} { // adopted already; not a child of this process
		if _, err := local.Adopt(pid, "", nil, nil, nil); !errors.Is(err, reaper.ErrNotOurs) {
			t.Errorf("adopted %d: %v", pid, err)
		}
	}
	p.Stdin().Close()
	wantFate(t, p, "exited with status 1")
}
