package reaper_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/reaper"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// roleVariable makes this binary run as a process of these tests.
const roleVariable = "REAPER_TEST_ROLE"

func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case "":
		goleak.VerifyTestMain(m)
	case "middle": // starts another process, prints its id and leaves it behind
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), roleVariable+"=orphan")
		cmd.Stdin = os.Stdin
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		fmt.Println(cmd.Process.Pid)
		os.Exit(0)
	case "orphan": // exits at the end of its stdin, with the status read from it
		text, _ := io.ReadAll(os.Stdin)
		status, _ := strconv.Atoi(string(text))
		os.Exit(status)
	case "seven":
		os.Exit(7)
	}
}

// command runs this binary in another role, without the second by which the race detector
// delays the end of a process.
func command(role string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"="+role, "GORACE=atexit_sleep_ms=0")
	return cmd
}

func begin(t *testing.T) *reaper.Reaper {
	t.Helper()
	r, err := reaper.Begin(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	return r
}

// orphan leaves a process behind whose parent has ended. end makes it exit.
func orphan(t *testing.T) (pid int, end func(status int)) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	t.Cleanup(func() { w.Close() })
	cmd := command("middle")
	cmd.Stdin = r
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := reaper.Start(cmd); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if pid, err = strconv.Atoi(strings.TrimSpace(line)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	reaper.Release(cmd.Process.Pid)
	return pid, func(status int) {
		fmt.Fprint(w, status)
		w.Close()
	}
}

// state returns the letter of a process's state and its parent; "" when it is gone.
func state(pid int) (letter string, parent int) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", 0
	}
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	parent, _ = strconv.Atoi(string(fields[1]))
	return string(fields[0]), parent
}

func zombies() (pids []string) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if letter, parent := state(pid); letter == "Z" && parent == os.Getpid() {
			pids = append(pids, filepath.Base(dir))
		}
	}
	return pids
}

func TestOrphansComeToUsAndAreReaped(t *testing.T) {
	begin(t)
	for range 10 {
		pid, end := orphan(t)
		if letter, parent := state(pid); letter == "" || letter == "Z" || parent != os.Getpid() {
			t.Fatalf("the orphan is in state %q and its parent is %d, not %d", letter, parent, os.Getpid())
		}
		end(3)
		wait.Until(t, "the orphan to be reaped", func() bool { letter, _ := state(pid); return letter == "" })
	}
}

// TestNoExitStatusIsTakenAway: children that are waited for keep their status, however
// quickly they end and however many orphans end beside them.
func TestNoExitStatusIsTakenAway(t *testing.T) {
	begin(t)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 15 {
				cmd := command("seven")
				if err := reaper.Start(cmd); err != nil {
					t.Error(err)
					return
				}
				if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 7 {
					t.Errorf("ended with %v (%v), want status 7", cmd.ProcessState, err)
				}
				reaper.Release(cmd.Process.Pid)
			}
		})
	}
	for range 10 {
		_, end := orphan(t)
		end(0)
	}
	wg.Wait()
	wait.Until(t, "every orphan to be reaped", func() bool { return len(zombies()) == 0 })
}

// TestAClaimedChildIsLeftAlone: it is not reaped although it has ended and others are
// reaped.
func TestAClaimedChildIsLeftAlone(t *testing.T) {
	begin(t)
	cmd := command("seven")
	if err := reaper.Start(cmd); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "it to end", func() bool { letter, _ := state(cmd.Process.Pid); return letter == "Z" })
	for range 3 {
		pid, end := orphan(t)
		end(0)
		wait.Until(t, "the orphan to be reaped", func() bool { letter, _ := state(pid); return letter == "" })
	}
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 7 {
		t.Errorf("ended with %v, want status 7", cmd.ProcessState)
	}
	reaper.Release(cmd.Process.Pid)
}

// TestAnExpectedOrphanWaitsForItsClaim: it ends before its claim, and keeps its status.
func TestAnExpectedOrphanWaitsForItsClaim(t *testing.T) {
	begin(t)
	done := reaper.Expect()
	defer done()
	pid, end := orphan(t)
	end(5)
	wait.Until(t, "it to end", func() bool { letter, _ := state(pid); return letter == "Z" })
	earlier, endEarlier := orphan(t)
	endEarlier(0)
	wait.Until(t, "the other to end", func() bool { letter, _ := state(earlier); return letter == "Z" })

	if err := reaper.Claim(pid); err != nil {
		t.Fatal(err)
	}
	if err := reaper.Claim(pid); !errors.Is(err, reaper.ErrNotOurs) {
		t.Errorf("claimed twice: %v", err)
	}
	done()
	wait.Until(t, "the other, unclaimed, to be reaped", func() bool { letter, _ := state(earlier); return letter == "" })
	var status syscall.WaitStatus
	if got, err := syscall.Wait4(pid, &status, 0, nil); got != pid || status.ExitStatus() != 5 {
		t.Errorf("waited for %d and got %d with status %d (%v), want 5", pid, got, status.ExitStatus(), err)
	}
	reaper.Release(pid)
}

func TestOnlyAChildCanBeClaimed(t *testing.T) {
	begin(t)
	for _, pid := range []int{os.Getppid(), os.Getpid(), 1, 1 << 30} {
		if err := reaper.Claim(pid); !errors.Is(err, reaper.ErrNotOurs) {
			t.Errorf("claimed %d: %v", pid, err)
		}
	}
}
