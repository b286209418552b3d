//go:build faults

package faults

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestRedisAwayUntilTheStopIsOver lets tasks end and stops the sidecar while Redis is away.
// With a spool the next start reports the tasks, and they run once. Without one the log names
// them, and they run again.
func TestRedisAwayUntilTheStopIsOver(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spool bool
	}{{"spooled", true}, {"not spooled", false}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "--appendonly", "yes", "--appendfsync", "always")
			s := setup{env: []string{"SIDECAR_SHUTDOWN_TIMEOUT=2s"}}
			folder := filepath.Join(w.dir, "spool")
			if c.spool {
				s.env = append(s.env, "SIDECAR_SPOOL_DIR="+folder)
			}
			for range 3 {
				first := w.crew(1, s)[0]
				tasks := w.killRedisUnder(first)
				wait.Within(t, 20*time.Second, "the ends of the tasks", func() bool { return w.ended(tasks...) })
				first.stop()
				w.server.Restart()
				if n := strings.Count(first.text(), "not reported before the end"); !c.spool && n != 2 {
					t.Errorf("%d of 2 tasks were named in the log", n)
				}
				w.crew(1, s)
				w.settle(25 * time.Second)
				w.stopAll()
			}
			if left, err := filepath.Glob(folder + "/*"); err != nil || len(left) > 0 {
				t.Errorf("left in the spool: %v, %v", left, err)
			}
			if !c.spool {
				w.again = 1
			}
			_, story := w.verify("Redis away until the stop is over, " + c.name)
			want := 1
			if !c.spool {
				want = 2
			}
			for id := range w.tasks {
				if n := len(story.Of(id).Starts); n != want {
					t.Errorf("%s ran %d times, want %d", id, n, want)
				}
			}
		})
	}
}

// killRedisUnder kills Redis while a sidecar with two slots runs two short tasks, and
// returns their ids.
func (w *world) killRedisUnder(s *sidecar) (tasks []string) {
	w.t.Helper()
	s.ready(2)
	one, other := w.fill(record{Ms: 1500}), w.fill(record{Ms: 1500})
	w.group(one, other)
	tasks = []string{one.TaskID, other.TaskID}
	for _, task := range tasks {
		w.runs(task)
	}
	w.hurt("Redis is gone, and " + s.id + " is to stop")
	w.killRedis()
	return tasks
}

// TestAStopWaitsForAGoneRedisForItsBound kills Redis while tasks run and stops the sidecar.
// The sidecar waits for Redis until SIDECAR_STOP_REDIS_WAIT is over, not for the whole budget
// of the stop. It logs what it waits for and the tasks that it could not report, which run
// again.
func TestAStopWaitsForAGoneRedisForItsBound(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "--appendonly", "yes", "--appendfsync", "always")
	first := w.crew(1, setup{env: []string{"SIDECAR_SHUTDOWN_TIMEOUT=5m", "SIDECAR_STOP_REDIS_WAIT=4s"}})[0]
	w.killRedisUnder(first)
	first.stop() // waits for at most half a minute, a tenth of the budget
	w.server.Restart()
	for _, want := range []struct {
		text string
		n    int
	}{{`"the stop waits for redis"`, 2}, {`"redis did not come back: the stop goes on without it"`, 1}, {`"not reported before the end`, 2}} {
		if n := strings.Count(first.text(), want.text); n != want.n {
			t.Errorf("the log has %s %d times, want %d", want.text, n, want.n)
		}
	}
	w.crew(1, setup{})
	w.settle(25 * time.Second)
	w.stopAll()
	w.again = 1
	w.verify("Redis away until the stop's wait for it is over")
}
