package reaper_test

import (
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/reaper"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestAbandonKillsChildrenGroupsAndOrphans: it takes no lock.
func TestAbandonKillsChildrenGroupsAndOrphans(t *testing.T) {
	r := begin(t)
	pids := escape(t, r, `setsid sh -c 'echo $$ >> $OUT; sleep 60 & wait' & sleep 60 & echo $! >> $OUT; wait`, 3)
	child := exec.Command("/bin/sleep", "60")
	child.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := reaper.Start(child); err != nil {
		t.Fatal(err)
	}
	defer reaper.Release(child.Process.Pid)
	unlock := reaper.LockForTest()
	reaper.Abandon(10 * time.Second)
	unlock()
	if err := child.Wait(); err == nil {
		t.Error("the child has ended by itself")
	}
	for _, pid := range pids {
		wait.Until(t, "an orphan's end", func() bool { return !runs(pid) })
	}
}
