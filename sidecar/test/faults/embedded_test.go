//go:build faults

package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"

	"github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestTheEmbeddedRedisIsKilled kills the Redis that a sidecar has started itself, while tasks
// run that last for minutes, with each kind of worker. The sidecar logs that they are lost,
// ends at once, and leaves nothing behind.
func TestTheEmbeddedRedisIsKilled(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		exec bool
	}{{"workers", false}, {"a process for each task", true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t) // its Redis has nothing to do, and nothing is observed there
			w.blind = true
			w.obs.close()
			port := redistest.FreePort(t)
			spool := filepath.Join(w.dir, "spool")
			s := w.start(setup{
				where: []string{"REDIS_URL=embedded", fmt.Sprint("REDIS_PORT=", port)}, exec: c.exec,
				env: []string{"SIDECAR_SPOOL_DIR=" + spool},
			})
			wait.Within(t, 20*time.Second, "the sidecar to be ready", func() bool { return s.says("sidecar is ready") })
			client := redis.NewClient(&redis.Options{Addr: fmt.Sprint("127.0.0.1:", port)})
			defer client.Close()
			ctx, cancel := bounded()
			defer cancel()
			for i := range 4 { // two of them run
				text := fmt.Sprintf(`{"task_id":"lost%d","session_id":"s","created_at":%d,"ms":300000}`, i, i)
				if err := client.RPush(ctx, w.key("queue"), text).Err(); err != nil {
					t.Fatal(err)
				}
			}
			wait.Within(t, 20*time.Second, "both tasks to run", func() bool {
				events, err := w.hist.Read()
				n := 0
				for _, e := range events {
					n += btoi(e.What == history.Started)
				}
				return err == nil && n == 2
			})
			w.hurt("SIGKILL of the embedded Redis: " + c.name)
			victim := w.serverOf(s)
			began := time.Now()
			if err := syscall.Kill(victim, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			if !s.ends(20 * time.Second) { // before the budget of a stop, 25 s, is over
				w.violation("the sidecar has not ended 20 s after its Redis")
				s.kill()
				<-s.done
			}
			w.outage = machine.Since(began)
			if status := s.cmd.ProcessState.ExitCode(); status != 69 {
				w.violation("it ended with status %d (%v)", status, s.cmd.ProcessState)
			}
			text := s.text()
			if !strings.Contains(text, "embedded redis has ended: its tasks are lost") {
				w.violation("the log does not say that the tasks are lost")
			}
			if n := strings.Count(text, "lost with the embedded redis"); n != 2 {
				w.violation("the log names %d lost tasks of 2", n)
			}
			if untrue := regexp.MustCompile(`delivered again|waits for redis|spooled for`).FindString(text); untrue != "" {
				w.violation("the log says %q", untrue)
			}
			if left, err := filepath.Glob(filepath.Join(spool, "*")); err != nil || len(left) > 0 {
				w.violation("spooled for a Redis that is gone: %v, %v", left, err)
			}
			w.hits = nil // the sidecar held nothing in the Redis of the world
			w.verify("SIGKILL of the embedded Redis, " + c.name)
		})
	}
}

// serverOf returns the process id of the Redis that a sidecar has started.
func (w *world) serverOf(s *sidecar) int {
	w.t.Helper()
	for _, pid := range s.children() {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // empty if the process has ended
		if strings.Contains(string(line), "redis-server") || strings.Contains(string(line), "valkey-server") {
			return pid
		}
	}
	w.t.Fatal("the sidecar has started no Redis")
	return 0
}
