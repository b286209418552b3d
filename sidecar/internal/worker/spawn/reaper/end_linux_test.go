package reaper_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/reaper"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

const (
	mark  = "SIDECAR_PROCESS_ID=w-1-MARKED"
	other = "SIDECAR_PROCESS_ID=w-2-OTHER"
)

// escape makes a shell, which leaves its parent and its group, run a script with
// additional variables. It returns the ids of the processes that the script writes to
// $OUT, that of the shell first.
func escape(t *testing.T, r *reaper.Reaper, script string, notes int, env ...string) (pids []int) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "pids")
	cmd := command("none")
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `setsid sh -c "$0" & exit 0`, "echo $$ >> $OUT; " + script}
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "OUT=" + out}, env...)
	if err := reaper.Start(cmd); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	reaper.Release(cmd.Process.Pid)
	wait.Until(t, "the escape", func() bool {
		text, _ := os.ReadFile(out)
		pids = pids[:0]
		for line := range strings.Lines(string(text)) {
			if pid, err := strconv.Atoi(strings.TrimSuffix(line, "\n")); err == nil && strings.HasSuffix(line, "\n") {
				pids = append(pids, pid)
			}
		}
		return len(pids) >= notes
	})
	t.Cleanup(func() {
		r.Stop()
		for _, pid := range pids {
			if runs(pid) {
				t.Errorf("process %d outlived the reaper", pid)
			}
		}
	})
	return pids
}

func runs(pid int) bool {
	letter, _ := state(pid)
	return letter != "" && letter != "Z" && letter != "X"
}

func TestEndKillsWhatCarriesTheMarkAndAllBelow(t *testing.T) {
	const linger = "sleep 600 & echo $! >> $OUT; wait"
	for _, c := range []struct {
		name   string
		env    string
		script string
		dead   []bool // for each process in $OUT
	}{
		{"marked, and its child", mark, linger, []bool{true, true}},
		{"its child has no environment", mark, `env -i sh -c 'echo $$ >> '$OUT'; exec sleep 600' & wait`, []bool{true, true}},
		{"its child has a session of its own", mark, `setsid sleep 600 & echo $! >> $OUT; wait`, []bool{true, true}},
		{"its child has left it, too", mark, `(setsid sh -c 'echo $$ >> $OUT; exec sleep 600' &) ; exec sleep 600`, []bool{true, true}},
		{"below an unmarked one", "X=1", mark + ` sh -c 'echo $$ >> $OUT; exec sleep 600' & wait; exec sleep 600`, []bool{false, true}},
		{"unmarked", "X=1", linger, []bool{false, false}},
		{"another's", other, linger, []bool{false, false}},
		{"the mark is a part of another's", mark + "-AND-MORE", linger, []bool{false, false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			pids := escape(t, begin(t), c.script, len(c.dead), c.env)
			reaper.End(mark, 0, 5*time.Second)
			for i, pid := range pids {
				if runs(pid) == c.dead[i] {
					t.Errorf("process %d of %v runs: %v", i, pids, runs(pid))
				}
			}
		})
	}
}

// TestEndOutrunsAProcessThatKeepsForking: a process that is forked during a kill is
// killed in the next round.
func TestEndOutrunsAProcessThatKeepsForking(t *testing.T) {
	escape(t, begin(t), `while :; do setsid sh -c 'echo $$ >> $OUT; exec sleep 600' & sleep 0.005; done`, 5, mark)
	reaper.End(mark, 0, 5*time.Second)
	files, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range files {
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if env, _ := os.ReadFile(file); bytes.Contains(env, []byte(mark+"\x00")) && runs(pid) {
			t.Errorf("%s still runs", filepath.Dir(file))
		}
	}
}

// TestUnmarkedOrphansMayEndByThemselves: they are killed when the reaper stops.
func TestUnmarkedOrphansMayEndByThemselves(t *testing.T) {
	var log bytes.Buffer
	r, err := reaper.Begin(slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Stop()
	patient, end := orphan(t)
	left := escape(t, r, "sleep 600", 1, other)
	reaper.End(mark, 0, time.Second)
	end(0)
	wait.Until(t, "it to end", func() bool { letter, _ := state(patient); return letter == "" })
	r.Stop()
	if letter, _ := state(left[0]); letter != "" {
		t.Errorf("an orphan outlived the reaper, in state %s", letter)
	}
	if !strings.Contains(log.String(), "leftover processes of a worker killed") || strings.Contains(log.String(), "WARN") {
		t.Errorf("the log says: %s", &log)
	}
}

// TestEndLeavesClaimedChildrenAlone: whatever their environment, they have an owner
// that ends them.
func TestEndLeavesClaimedChildrenAlone(t *testing.T) {
	begin(t)
	cmd := command("none")
	cmd.Path, cmd.Args, cmd.Env = "/bin/sleep", []string{"sleep", "600"}, []string{mark}
	if err := reaper.Start(cmd); err != nil {
		t.Fatal(err)
	}
	reaper.End(mark, 0, time.Second)
	if !runs(cmd.Process.Pid) {
		t.Error("a claimed child was killed")
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	_ = cmd.Wait()
	reaper.Release(cmd.Process.Pid)
}

// TestNothingIsKilledWithoutAReaper: a program that embeds the sidecar has children of
// its own.
func TestNothingIsKilledWithoutAReaper(t *testing.T) {
	cmd := command("none")
	cmd.Path, cmd.Args, cmd.Env = "/bin/sleep", []string{"sleep", "600"}, []string{mark}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reaper.End(mark, 0, time.Second)
	if !runs(cmd.Process.Pid) {
		t.Error("a child of another program was killed")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
}
