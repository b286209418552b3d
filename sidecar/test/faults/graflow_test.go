//go:build faults

package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/graflow"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// contest is one fault that is put to both: Graflow's own worker, and the sidecar with
// Graflow's tasks.
type contest struct {
	name  string
	tasks int
	does  []string // further words for testdata/group.py
	// hurt causes the fault while as many tasks run as can.
	hurt func(g *graflows)
}

var contests = []contest{
	{"SIGKILL of a worker with tasks in flight", 8, nil, func(g *graflows) {
		g.w.hurt("SIGKILL")
		_ = g.all[0].Process.Kill() // it may be dead already
	}},
	{"Redis away for 2 s", 8, nil, away(2 * time.Second)},
	// Longer than any client's own retries, and still within a barrier's 30 s.
	{"Redis away for 14 s, and tasks that need it", 8, []string{"channel"}, away(14 * time.Second)},
	{"poison: a task that kills its worker", 8, []string{"killer"}, func(g *graflows) { g.w.hurt("killer") }},
	{"a record that was pushed three times", 8, nil, func(g *graflows) {
		g.w.hurt("twice")
		g.pushAgain()
	}},
	{"poison: records that are none", 4, nil, func(g *graflows) {
		g.w.hurt("poison")
		ctx, cancel := bounded()
		defer cancel()
		for _, text := range []string{"not JSON", "[1]", `{"session_id":"x"}`} {
			if err := g.w.c.RPush(ctx, g.w.key("queue"), text).Err(); err != nil {
				g.w.t.Error(err)
			}
			g.extra++
		}
	}},
}

func away(d time.Duration) func(*graflows) {
	return func(g *graflows) {
		g.w.hurt(fmt.Sprint("Redis away for ", d))
		g.w.killRedis()
		wait.Pass(d)
		g.w.server.Restart()
	}
}

// TestBesideGraflowsOwnWorker puts the same faults to Graflow's own worker and to the
// sidecar. Graflow's own worker cannot fail the test: the table shows what it loses.
func TestBesideGraflowsOwnWorker(t *testing.T) {
	t.Parallel()
	interpreter := graflow.Find()
	if interpreter == "" {
		table.add(row{fault: "(not run: no Python with Graflow, see GRAFLOW_PYTHON)", own: true})
		return
	}
	for _, c := range contests {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for _, own := range []bool{true, false} {
				t.Run(map[bool]string{true: "own worker", false: "sidecar"}[own], func(t *testing.T) {
					g := &graflows{w: newWorld(t, "--appendonly", "yes", "--appendfsync", "always"), python: interpreter, own: own}
					g.w.obs.everybody()
					g.run(c)
				})
			}
		})
	}
}

// graflows is one run of a contest, with Graflow's own workers or with sidecars.
type graflows struct {
	w      *world
	python string
	own    bool
	all    []*exec.Cmd
	group  string
	extra  int // pushed texts that are not records
	// login is the environment that gives sidecars their own user in Redis.
	login []string
}

// startWorker starts a worker or a sidecar that runs two tasks at once.
func (g *graflows) startWorker() {
	g.w.t.Helper()
	if !g.own {
		g.all = append(g.all, g.w.start(setup{graflow: g.python, env: slices.Concat(eager, g.login)}).cmd)
		return
	}
	cmd := g.command("-m", "graflow.worker.main")
	g.all = append(g.all, cmd)
}

// command starts a Python that is killed when the test ends.
func (g *graflows) command(args ...string) *exec.Cmd {
	g.w.t.Helper()
	cmd := exec.Command(g.python, args...)
	cmd.Dir = build.Root("sidecar", "test", "faults", "testdata")
	cmd.Env = append(proc.Env(), "REDIS_HOST="+g.w.server.Host, "REDIS_PORT="+strconv.Itoa(g.w.server.Port),
		"REDIS_KEY_PREFIX="+g.w.prefix, "MAX_CONCURRENT_TASKS=2", "WORKER_ID=own-"+strconv.Itoa(len(g.all)))
	log, err := os.Create(filepath.Join(g.w.dir, fmt.Sprintf("python-%d-%s.log", len(g.all), filepath.Base(args[len(args)-1]))))
	if err != nil {
		g.w.t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := proc.Start(cmd); err != nil {
		g.w.t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // it is killed
	}()
	g.w.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-done
	})
	return cmd
}

func (g *graflows) run(c contest) {
	w := g.w
	g.startWorker()
	g.startWorker()
	g.command(append([]string{"group.py", strconv.Itoa(c.tasks), "1.0", w.hist.Path}, c.does...)...)
	wait.Within(w.t, time.Minute, "tasks that run", func() bool {
		ctx, cancel := bounded()
		defer cancel()
		if keys := w.c.Keys(ctx, w.key("barrier", "*", "expected")).Val(); len(keys) > 0 {
			g.group = strings.TrimSuffix(strings.TrimPrefix(keys[0], w.key("barrier")+":"), ":expected")
		}
		return g.group != "" && len(g.story().Tasks) >= 4
	})
	began := time.Now()
	c.hurt(g)
	done := false
	for deadline := began.Add(history.BarrierWait); !done && time.Now().Before(deadline); wait.Pass(50 * time.Millisecond) {
		done = !g.story().Published[g.group].IsZero()
	}
	g.judge(c, time.Since(began))
}

func (g *graflows) story() *history.Story {
	events, err := g.w.hist.Read()
	if err != nil {
		return history.Tell(nil) // a line is being written
	}
	return history.Tell(events)
}

// pushAgain puts copies of a record on the queue, as a producer does that did not get the
// acknowledgement of its first push.
func (g *graflows) pushAgain() {
	ctx, cancel := bounded()
	defer cancel()
	texts, err := g.w.c.LRange(ctx, g.w.key("queue"), 0, 0).Result()
	if err != nil || len(texts) == 0 {
		g.w.t.Fatalf("nothing is on the queue any more: %v", err)
	}
	for range 2 {
		if err := g.w.c.LPush(ctx, g.w.key("queue"), texts[0]).Err(); err != nil {
			g.w.t.Error(err)
		}
	}
}

// judge adds the result of a contest to the table, as a producer would see it: lost tasks,
// groups that were released too early, tasks that failed and records that were dropped.
func (g *graflows) judge(c contest, took time.Duration) {
	w, s := g.w, g.story()
	told, counted, failed := map[string]bool{}, s.Published[g.group], 0
	for id, f := range s.Tasks {
		for _, e := range f.Completed {
			if counted.IsZero() || e.Time().Before(counted) {
				told[id] = true
			}
			var c history.Completion
			if json.Unmarshal([]byte(e.Text), &c) == nil && !c.Success {
				failed++
			}
		}
	}
	ctx, cancel := bounded()
	defer cancel()
	for _, id := range w.c.HKeys(ctx, w.key("completions", g.group)).Val() {
		told[id] = told[id] || counted.IsZero() // the observer may miss it while Redis restarts
	}
	var broken []string
	switch missing := c.tasks - len(told); {
	case counted.IsZero():
		broken = append(broken, fmt.Sprintf("%d of %d tasks lost, the group never done", missing, c.tasks))
	case missing > 0:
		broken = append(broken, fmt.Sprintf("group released with %d of %d tasks not done", missing, c.tasks))
	}
	if slices.Contains(c.does, "killer") {
		failed = max(0, failed-1) // the task that kills its worker has to fail
	}
	if failed > 0 {
		broken = append(broken, fmt.Sprintf("%d tasks failed for nothing of their own", failed))
	}
	if g.extra > 0 {
		dead := 0
		wait.Within(w.t, 10*time.Second, "an empty queue", func() bool { return w.c.LLen(ctx, w.key("queue")).Val() == 0 })
		for deadline := time.Now().Add(2 * time.Second); dead < g.extra && time.Now().Before(deadline); wait.Pass(20 * time.Millisecond) {
			dead = int(w.c.ZCard(ctx, w.key("sidecar", "dead")).Val())
		}
		if dead < g.extra {
			broken = append(broken, fmt.Sprintf("%d of %d records dropped without a trace", g.extra-dead, g.extra))
		}
	}
	how := broken
	if n := g.tracebacks(); g.own && n > 0 {
		how = append(slices.Clip(how), fmt.Sprintf("%d tracebacks in its logs", n))
	}
	r := row{fault: c.name, runs: 1, violations: len(broken), note: strings.Join(how, "; "), own: g.own}
	if !g.own {
		for _, b := range broken {
			w.t.Errorf("violation: %s", b)
		}
		r.fault, r.note = "Graflow tasks: "+c.name, fmt.Sprintf("%d tasks, all done after %.1f s", c.tasks, took.Seconds())
		w.stopAll()
	}
	table.add(r)
	w.t.Logf("%s after %v: %v", c.name, took, broken)
}

// tracebacks counts the tracebacks in the logs of Graflow's own workers.
func (g *graflows) tracebacks() (n int) {
	logs, err := filepath.Glob(filepath.Join(g.w.dir, "python-*-graflow.worker.main.log"))
	if err != nil {
		g.w.t.Error(err)
	}
	for _, log := range logs {
		text, err := os.ReadFile(log)
		if err != nil {
			g.w.t.Error(err)
		}
		n += strings.Count(string(text), "Traceback (most recent call last)")
	}
	return n
}
