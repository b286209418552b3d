package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// bundle is a pool on a queue, with a channel of its outcomes.
type bundle struct {
	t        *testing.T
	queue    *dispatch.Queue
	pool     *rpc.Pool
	outcomes chan task.Outcome
	log      *testlog.Buffer
	stop     context.CancelFunc // soft
	abort    context.CancelFunc // hard
	ended    chan error
	seq      int64
}

func (b *bundle) Add(o task.Outcome) { b.outcomes <- o }

func (b *bundle) AddAll(os []task.Outcome) {
	for _, o := range os {
		b.Add(o)
	}
}

func setup(t *testing.T, role string, change func(*rpc.Config)) *bundle {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle{t: t, outcomes: make(chan task.Outcome, 1000), log: &testlog.Buffer{}, ended: make(chan error, 1)}
	b.queue = dispatch.New(dispatch.Exits{Requeue: func(x task.Task) { b.Add(task.Outcome{Task: x, Conclusion: task.Returned}) }})
	cfg := rpc.Config{
		Command: []string{self}, // Without it the race detector delays the end of each child by a second.
		Env:     append(os.Environ(), roleVariable+"="+role, "GORACE=atexit_sleep_ms=0"),
		Slots:   1, WorkerID: "test", Version: "test",
		StartTimeout: 10 * time.Second, StartRetries: 1,
		Restart:      backoff.Policy{Min: time.Millisecond, Max: 10 * time.Millisecond},
		PingInterval: 10 * time.Second, PingTimeout: 10 * time.Second, WriteTimeout: 10 * time.Second,
		KillGrace: 2 * time.Second, MaxMessageBytes: 1 << 20,
		Log: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(&cfg)
	}
	b.queue.Limit(cfg.Slots, cfg.MaxExtra)
	b.pool = rpc.New(cfg, b.queue, b)
	soft, stop := context.WithCancel(context.Background())
	hard, abort := context.WithCancel(context.Background())
	b.stop, b.abort = stop, abort
	go func() { b.ended <- b.pool.Run(soft, hard) }()
	t.Cleanup(func() {
		b.halt()
		if t.Failed() {
			t.Log(b.log)
		}
	})
	return b
}

// halt stops the pool at once, if it is not stopped yet.
func (b *bundle) halt() {
	b.queue.Close()
	b.stop()
	b.abort()
	select {
	case err := <-b.ended:
		b.ended <- err
	case <-time.After(20 * time.Second):
		b.t.Error("the pool does not stop")
	}
}

func (b *bundle) push(do, path string) task.Task {
	b.t.Helper()
	wait.Until(b.t, "a child", func() bool { return b.queue.Counts().Capacity > 0 }) // without a child, tasks are returned
	b.seq++
	id := fmt.Sprint("task-", b.seq)
	x := task.Task{
		Delivery: fmt.Sprint("run.", b.seq), Seq: b.seq, Attempt: 1,
		Record: fmt.Appendf(nil, `{"task_id":%q,"do":%q,"path":%q}`, id, do, path),
		Info:   task.Info{TaskID: id},
	}
	b.queue.Offer([]task.Task{x})
	return x
}

func (b *bundle) next() task.Outcome {
	b.t.Helper()
	select {
	case o := <-b.outcomes:
		return o
	case <-time.After(20 * time.Second):
		b.t.Fatal("no outcome")
		return task.Outcome{}
	}
}

func (b *bundle) wantErr() error {
	b.t.Helper()
	select {
	case err := <-b.ended:
		b.ended <- err
		return err
	case <-time.After(30 * time.Second):
		b.t.Fatal("the pool did not end")
		return nil
	}
}

func TestATaskEndsAsItsWorkerSays(t *testing.T) {
	for _, c := range []struct {
		do      string
		kind    task.Conclusion
		message string
	}{
		{"", task.Succeeded, ""},
		{"fail", task.Failed, "it did not work"},
		{"panic", task.Failed, "panic: where it happened"},
		{"retry", task.Retry, "not now"},
		{"die", task.Lost, "exited with status 7"},
		{"segfault", task.Lost, "the worker "},
	} {
		t.Run("do "+c.do, func(t *testing.T) {
			b := setup(t, "good", nil)
			b.push(c.do, "")
			o := b.next()
			if o.Conclusion != c.kind || !strings.Contains(o.Message, c.message) {
				t.Errorf("%v: %s", o.Conclusion, o.Message)
			}
			if c.kind == task.Succeeded && string(o.Value) != `{"task":"task-1"}` {
				t.Errorf("value %s", o.Value)
			}
			// Only the line about the end of the task has it.
			if (o.Stack != "") != (c.do == "panic") || (o.Stack != "" && strings.Contains(b.log.String(), "goroutine ")) {
				t.Errorf("stack %q, log:\n%s", o.Stack, b.log.String())
			}
			// In every case the next task is run.
			b.push("", "")
			if o := b.next(); o.Conclusion != task.Succeeded {
				t.Errorf("the next task: %v: %s", o.Conclusion, o.Message)
			}
		})
	}
}

func TestAWorkerThatCannotBeStartedIsExplainedInOneLine(t *testing.T) {
	for _, c := range []struct {
		role string
		cfg  func(*rpc.Config)
		want []string
	}{
		{"", func(c *rpc.Config) { c.Command = []string{"no-such-worker-anywhere"} }, []string{"no-such-worker-anywhere", "not found on PATH"}},
		{"", func(c *rpc.Config) { c.Command = []string{"/no/such/file"} }, []string{"/no/such/file", "does not exist"}},
		{"", func(c *rpc.Config) { c.Command = []string{os.TempDir()} }, []string{"permission denied"}},
		{"exits at once", nil, []string{"exited with status 3", "before it answered initialize", "cannot find my configuration"}},
		{"prints and exits", nil, []string{"exited with status 0", `printed "usage: some-tool FILE"`}},
		{"echoes", nil, []string{`sent the request "initialize" before it answered`}},
		{"floods before its answer", nil, []string{"no answer to initialize", `printed "y"`}},
		{"never answers", func(c *rpc.Config) { c.StartTimeout = 300 * time.Millisecond }, []string{"did not answer initialize within 300ms"}},
		{"speaks version 9", nil, []string{"speaks version 9"}},
		{"refuses to start", nil, []string{"Graflow is not installed"}},
	} {
		t.Run(c.role+strings.Join(c.want[:1], ""), func(t *testing.T) {
			b := setup(t, c.role, c.cfg)
			err := b.wantErr()
			var failure *local.StartError
			if !errors.As(err, &failure) || failure.Attempts != 2 {
				t.Fatalf("ended with %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			if n := b.queue.Counts().Capacity; n != 0 {
				t.Errorf("capacity %d was announced for a worker that never started", n)
			}
		})
	}
}

func TestAnIdleWorkerThatIsSilentIsReplaced(t *testing.T) {
	b := setup(t, "stops reading", func(c *rpc.Config) {
		c.PingInterval, c.PingTimeout = 20*time.Millisecond, 100*time.Millisecond
	})
	wait.Until(t, "the replacement", func() bool { return strings.Count(b.log.String(), "worker ready") >= 2 })
	if !strings.Contains(b.log.String(), "did not answer a ping") {
		t.Error("the log does not say why")
	}
}

// TestABusyWorkerThatIsSilentIsNotReplaced: a task in C code that keeps Python's global
// lock answers no ping, and works.
func TestABusyWorkerThatIsSilentIsNotReplaced(t *testing.T) {
	b := setup(t, "stops answering", func(c *rpc.Config) {
		c.PingInterval, c.PingTimeout, c.TaskTimeout, c.KillGrace = 5*time.Millisecond, 20*time.Millisecond, 500*time.Millisecond, 100*time.Millisecond
	})
	b.push("", "")
	if o := b.next(); o.Conclusion != task.Failed || o.Reason != "timeout" {
		t.Errorf("%v: %s", o.Conclusion, o.Message)
	}
	if strings.Contains(b.log.String(), "did not answer a ping") {
		t.Error("it was judged by its pings")
	}
}

func TestLinesOfAWorkerNameItsTask(t *testing.T) {
	b := setup(t, "logs", nil)
	b.push("", "")
	b.next()
	for _, want := range []string{
		`msg="worker stderr" slot=0`, `line="on stderr of task-1" task_id=task-1`,
		`line="on stdout" task_id=task-1`, `level=WARN msg="worker log" slot=0`,
		`level=ERROR msg="worker stderr" slot=0`, `line="as JSON" task_id=task-1`, ` worker_pid=0 rows=3`,
		`line="by the protocol" delivery=nobody's rows=12345678901234567890 worker_slot=9`,
	} {
		wait.Until(t, want, func() bool { return strings.Contains(b.log.String(), want) })
	}
}

func TestNeighboursOfADeathAreSharers(t *testing.T) {
	b := setup(t, "concurrent", func(c *rpc.Config) { c.Slots = 4 })
	b.push("hang", "")
	b.push("hang", "")
	wait.Until(t, "both to start", func() bool { return b.queue.Counts().Running == 2 })
	b.push("die", "")
	for range 3 {
		if o := b.next(); o.Conclusion != task.Lost || !o.Shared {
			t.Errorf("%v shared=%v", o.Conclusion, o.Shared)
		}
	}
}

// TestALastAttemptHasAChildOfItsOwn: the task kills its worker, and no other task dies
// with it.
func TestALastAttemptHasAChildOfItsOwn(t *testing.T) {
	b := setup(t, "concurrent", func(c *rpc.Config) { c.Slots = 4 })
	gate := filepath.Join(t.TempDir(), "gate")
	b.push("gate", gate)
	wait.Until(t, "the neighbour to start", func() bool { _, err := os.Stat(gate + ".started"); return err == nil })
	for n, do := range []string{"die", ""} {
		b.queue.Offer([]task.Task{{
			Delivery: fmt.Sprint("run.isolated", n), Attempt: 3, Isolation: task.IsolateProcess,
			Record: fmt.Appendf(nil, `{"task_id":"isolated","do":%q}`, do), Info: task.Info{TaskID: "isolated"},
		}})
		o := b.next()
		if o.Task.Info.TaskID != "isolated" || o.Shared || (o.Conclusion == task.Lost) != (do == "die") {
			t.Fatalf("%s: %v shared=%v: %s", o.Task.Info.TaskID, o.Conclusion, o.Shared, o.Message)
		}
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if o := b.next(); o.Conclusion != task.Succeeded {
		t.Errorf("the neighbour: %v: %s", o.Conclusion, o.Message)
	}
	wait.Until(t, "the slots", func() bool { return b.queue.Counts() == dispatch.Counts{Capacity: 4} })
}

func TestChildrenAreAsManyAsTheSlotsNeed(t *testing.T) {
	b := setup(t, "concurrent", func(c *rpc.Config) { c.Slots = 10 }) // 4 + 4 + 2
	wait.Until(t, "three children", func() bool { return b.pool.Up() == 3 })
	wait.Until(t, "ten slots", func() bool { return b.queue.Counts().Capacity == 10 })
}

func TestAStopLetsRunningTasksFinish(t *testing.T) {
	b := setup(t, "good", nil)
	gate := filepath.Join(t.TempDir(), "gate")
	b.push("gate", gate)
	wait.Until(t, "the task to start", func() bool { _, err := os.Stat(gate + ".started"); return err == nil })
	waiting := b.push("", "")
	b.queue.Close()
	b.stop()
	if o := b.next(); o.Conclusion != task.Returned || o.Task.Delivery != waiting.Delivery {
		t.Fatalf("the unstarted one: %v", o.Conclusion)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if o := b.next(); o.Conclusion != task.Succeeded {
		t.Errorf("the running one: %v: %s", o.Conclusion, o.Message)
	}
	if err := b.wantErr(); err != nil {
		t.Error(err)
	}
}

func TestWhatAStopCutsShortCostsNothing(t *testing.T) {
	b := setup(t, "ignores everything", nil)
	b.push("", "")
	wait.Until(t, "the task to start", func() bool { return b.queue.Counts().Running == 1 })
	b.queue.Close()
	b.stop()
	began, clock := time.Now(), machine.Watch(t)
	b.abort()
	if o := b.next(); o.Conclusion != task.Returned {
		t.Errorf("%v: %s", o.Conclusion, o.Message)
	}
	if err := b.wantErr(); err != nil {
		t.Error(err)
	}
	if d := clock.Since(began); d > 2*time.Second {
		t.Errorf("letting go took %v", d)
	}
}

func TestADeadlineCancelsAndThenKills(t *testing.T) {
	for _, c := range []struct{ role, do string }{
		{"good", "wait"}, // ends when cancelled
		{"ignores everything", ""},
	} {
		t.Run(c.role, func(t *testing.T) {
			b := setup(t, c.role, func(c *rpc.Config) {
				c.TaskTimeout, c.KillGrace = 100*time.Millisecond, 200*time.Millisecond
			})
			b.push(c.do, "")
			o := b.next()
			if o.Conclusion != task.Failed || o.Reason != "timeout" || !strings.Contains(o.Message, "100ms") {
				t.Errorf("%v %q: %s", o.Conclusion, o.Reason, o.Message)
			}
		})
	}
}

func TestNeighboursOfAnOverdueTaskGoBackAtNoCost(t *testing.T) {
	b := setup(t, "concurrent", func(c *rpc.Config) { c.Slots, c.KillGrace = 4, 200*time.Millisecond })
	b.push("hang", "") // the record has no deadline of its own
	overdue := task.Task{
		Delivery: "run.overdue", Attempt: 1, Record: []byte(`{"task_id":"overdue","do":"hang"}`),
		Info: task.Info{TaskID: "overdue", Timeout: 50 * time.Millisecond},
	}
	b.queue.Offer([]task.Task{overdue})
	got := map[string]task.Conclusion{}
	for range 2 {
		o := b.next()
		got[o.Task.Info.TaskID] = o.Conclusion
	}
	if got["overdue"] != task.Failed || got["task-1"] != task.Returned {
		t.Errorf("%v", got)
	}
}

func TestEvictEndsWhatRuns(t *testing.T) {
	for _, do := range []string{"wait", "hang"} {
		t.Run(do, func(t *testing.T) {
			b := setup(t, "good", func(c *rpc.Config) { c.KillGrace = 300 * time.Millisecond })
			b.push(do, "")
			wait.Until(t, "the task to start", func() bool { return b.queue.Counts().Running == 1 })
			b.pool.Evict("run")
			if o := b.next(); o.Conclusion == task.Succeeded {
				t.Errorf("the evicted task: %v", o.Conclusion)
			}
			wait.Until(t, "its slot", func() bool { return b.queue.Counts().Running == 0 })
			// A task that is acquired at the same moment does not start either.
			b.push("", "")
			if o := b.next(); o.Conclusion != task.Returned {
				t.Errorf("a task of the evicted run: %v", o.Conclusion)
			}
			wait.Until(t, "a child", func() bool { return b.queue.Counts().Capacity > 0 })
			b.queue.Offer([]task.Task{{Delivery: "next.1", Record: []byte(`{"task_id":"n"}`), Info: task.Info{TaskID: "n"}}})
			if o := b.next(); o.Conclusion != task.Succeeded {
				t.Errorf("a task of the next run: %v: %s", o.Conclusion, o.Message)
			}
		})
	}
}

func TestNoGrandchildSurvives(t *testing.T) {
	for _, do := range []string{"die", "live"} {
		t.Run(do, func(t *testing.T) {
			b := setup(t, "leaves a grandchild", nil)
			path := filepath.Join(t.TempDir(), "pid")
			b.push(do, path)
			b.next()
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(string(text))
			if err != nil {
				t.Fatal(err)
			}
			b.halt()
			wait.Until(t, "the grandchild's end", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || isZombie(pid) })
		})
	}
}

// TestADeathIsSeenBehindADaemon: the death of a worker is noticed although a process
// that has left its group, and may live for days, keeps its pipes open.
func TestADeathIsSeenBehindADaemon(t *testing.T) {
	b := setup(t, "leaves a grandchild", nil)
	path := filepath.Join(t.TempDir(), "pid")
	b.push("die, and it has left", path)
	if o := b.next(); o.Conclusion != task.Lost {
		t.Errorf("the task is %v", o.Conclusion)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL) // the death of its parent may have ended it
}

// isZombie reports whether a process is dead and not reaped yet.
func isZombie(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(stat), ") Z ")
}
