//go:build scale

package scale

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestProcesses does it with real processes: fifty sidecars and their workers.
func TestProcesses(t *testing.T) {
	const n, tasks = 50, 2000
	var programs build.Programs
	t.Cleanup(programs.Remove)
	binary, err := programs.Program("sidecar")()
	if err != nil {
		t.Fatal(err)
	}
	server := redistest.Start(t)
	c := server.Client()
	runs := func() int64 { return c.SCard(t.Context(), "fleet:sidecar:runs").Val() }
	var all []*exec.Cmd
	t.Cleanup(func() {
		for _, cmd := range all {
			if cmd.ProcessState == nil {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
			}
		}
	})
	began := time.Now()
	for range n {
		cmd := exec.Command(binary, "run", "--", binary, "example-worker")
		cmd.Env = append(os.Environ(), "REDIS_URL=redis://"+server.Addr, "REDIS_KEY_PREFIX=fleet", "MAX_CONCURRENT_TASKS=1", "LOG_LEVEL=WARNING")
		if err := proc.Start(cmd); err != nil {
			t.Fatal(err)
		}
		all = append(all, cmd)
	}
	wait.Until(t, "all to be members", func() bool { return runs() == n })
	up := time.Since(began)
	before := used(t, c)
	pause(t.Context(), window)
	after := used(t, c)
	span := after.at.Sub(before.at).Seconds()

	records := make([]any, tasks)
	for i := range records {
		records[i] = fmt.Sprintf(`{"task_id":"words_%d","session_id":"s","created_at":%d.5,"params":{"text":"to be or not to be"}}`, i, i)
	}
	began = time.Now()
	if err := c.RPush(t.Context(), "fleet:queue", records...).Err(); err != nil {
		t.Fatal(err)
	}
	wait.Until(t, "every task to be over", func() bool {
		held, err := c.Keys(t.Context(), "fleet:sidecar:inflight:*").Result()
		return err == nil && len(held) == 0 && c.LLen(t.Context(), "fleet:queue").Val() == 0
	})
	worked := time.Since(began)
	results, err := c.Keys(t.Context(), "graflow:channel:s:words_*.__result__").Result()
	if err != nil || len(results) != tasks {
		t.Errorf("%d of %d tasks have succeeded, %v", len(results), tasks, err)
	}
	for _, cmd := range all {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
	}
	for _, cmd := range all {
		if err := cmd.Wait(); err != nil {
			t.Errorf("a sidecar ended with %v", err)
		}
	}
	if left := runs(); left != 0 {
		t.Errorf("%d runs are left", left)
	}
	fmt.Printf("\n%d processes: up in %.1f s, %.1f scripts/s each when idle, %.1f %% of a processor in Redis; %d tasks in %.1f s\n",
		n, up.Seconds(), (after.scripts-before.scripts)/span/n, (after.cpu-before.cpu)/span*100, tasks, worked.Seconds())
}
