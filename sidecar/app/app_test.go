package app_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

const workerVariable = "APP_TEST_WORKER"

func TestMain(m *testing.M) {
	if os.Getenv(workerVariable) != "" {
		worker()
		return
	}
	goleak.VerifyTestMain(m, redistest.LeakOptions()...)
}

// job is a record of these tests.
type job struct {
	TaskID    string  `json:"task_id"`
	SessionID string  `json:"session_id"`
	GroupID   string  `json:"group_id,omitempty"`
	CreatedAt float64 `json:"created_at"`
	Do        string  `json:"do,omitempty"`
	Path      string  `json:"path,omitempty"`
}

func worker() {
	if os.Getenv(workerVariable) == "crash" {
		time.AfterFunc(30*time.Millisecond, func() {
			fmt.Fprintln(os.Stderr, "out of luck")
			os.Exit(3)
		})
	}
	_ = protocol.Serve(context.Background(), func(ctx context.Context, t *protocol.Task) (any, error) {
		var j job
		if err := t.Decode(&j); err != nil {
			return nil, err
		}
		switch j.Do {
		case "trace":
			return t.Traceparent, nil
		case "fail":
			return nil, errors.New("no luck")
		case "die":
			os.Exit(1)
		case "wait and gate":
			defer t.Waiting()()
			fallthrough
		case "gate":
			if err := os.WriteFile(j.Path+".started", nil, 0o600); err != nil {
				return nil, err
			}
			for ctx.Err() == nil {
				if _, err := os.Stat(j.Path); err == nil {
					break
				}
				time.Sleep(5 * time.Millisecond)
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
		return j.TaskID + " done", nil
	})
}

// bundle is a sidecar on a real Redis.
type bundle struct {
	t      *testing.T
	app    *app.App
	rdb    *redis.Client
	prefix string
	log    *testlog.Buffer
}

func settings(t *testing.T, url, prefix string, log *testlog.Buffer) config.Config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := app.DefaultConfig()
	cfg.WorkerID, cfg.KeyPrefix, cfg.Redis.URL = "test", prefix, url
	cfg.Worker.Command = []string{self}
	cfg.Worker.Env = append(os.Environ(), workerVariable+"=1", "GORACE=atexit_sleep_ms=0") // the race detector would have every child linger for a second
	cfg.Log = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	return cfg
}

func setup(t *testing.T, change func(*config.Config)) *bundle {
	t.Helper()
	server := redistest.New(t)
	b := &bundle{t: t, rdb: server.Client(), prefix: redistest.Prefix(t), log: &testlog.Buffer{}}
	cfg := settings(t, server.URL, b.prefix, b.log)
	if change != nil {
		change(&cfg)
	}
	b.app = start(t, cfg, b.log)
	return b
}

func start(t *testing.T, cfg config.Config, log *testlog.Buffer) *app.App {
	t.Helper()
	a, err := app.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		a.Abort()
		_ = a.Wait()
		if t.Failed() {
			t.Log(log)
		}
	})
	return a
}

func (b *bundle) push(jobs ...job) {
	b.t.Helper()
	for i := range jobs {
		jobs[i].CreatedAt = float64(time.Now().UnixMicro()) / 1e6
		text, err := json.Marshal(jobs[i])
		if err != nil {
			b.t.Fatal(err)
		}
		if err := b.rdb.RPush(b.t.Context(), b.prefix+":queue", text).Err(); err != nil {
			b.t.Fatal(err)
		}
	}
}

// queue reads the task ids in the queue, from its head.
func (b *bundle) queue() (ids []string) {
	b.t.Helper()
	texts, err := b.rdb.LRange(context.Background(), b.prefix+":queue", 0, -1).Result()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, text := range texts {
		var j job
		if err := json.Unmarshal([]byte(text), &j); err != nil {
			b.t.Fatal(err)
		}
		ids = append(ids, j.TaskID)
	}
	return ids
}

// leftovers are keys that a run must not leave behind.
func (b *bundle) leftovers() (keys []string) {
	b.t.Helper()
	for _, pattern := range []string{"runs", "alive:*", "inbox:*", "inflight:*"} {
		found, err := b.rdb.Keys(context.Background(), b.prefix+":sidecar:"+pattern).Result()
		if err != nil {
			b.t.Fatal(err)
		}
		keys = append(keys, found...)
	}
	return keys
}

func (b *bundle) result(session, task string) string {
	text, _ := b.rdb.Get(context.Background(), "graflow:channel:"+session+":"+task+".__result__").Result()
	return text
}

func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	wait.Until(t, what, ok)
}

func within(t *testing.T, d time.Duration, a *app.App) error {
	t.Helper()
	select {
	case <-a.Done():
		return a.Wait()
	case <-time.After(d):
		t.Fatalf("not over within %v", d)
		return nil
	}
}

func TestTasksRunAndTheirResultsAreKept(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	session := b.prefix
	const n = 50
	for i := range n {
		b.push(job{TaskID: fmt.Sprint("t", i), SessionID: session})
	}
	await(t, "every result", func() bool {
		for i := range n {
			if b.result(session, fmt.Sprint("t", i)) != fmt.Sprintf(`"t%d done"`, i) {
				return false
			}
		}
		return true
	})
	if err := b.app.Close(); err != nil {
		t.Errorf("closed with %v", err)
	}
	if left := b.leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAGroupIsCountedExactly(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	ctx := t.Context()
	const n = 20
	b.rdb.Set(ctx, b.prefix+":barrier:g:expected", n, 0)
	sub := b.rdb.Subscribe(ctx, b.prefix+":barrier_done:g")
	defer sub.Close()
	if _, err := sub.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		do := ""
		if i == 7 {
			do = "fail"
		}
		b.push(job{TaskID: fmt.Sprint("t", i), SessionID: b.prefix, GroupID: "g", Do: do})
	}
	select {
	case m := <-sub.Channel():
		if m.Payload != "complete" {
			t.Errorf("published %q", m.Payload)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the barrier was never reached")
	}
	if got := b.rdb.Get(ctx, b.prefix+":barrier:g").Val(); got != fmt.Sprint(n) {
		t.Errorf("counter %s", got)
	}
	failed := b.rdb.HGet(ctx, b.prefix+":completions:g", "t7").Val()
	if !strings.Contains(failed, `"success":false`) || !strings.Contains(failed, "no luck") {
		t.Errorf("completion %s", failed)
	}
}

func TestATaskThatKillsItsWorkerEndsInTheDeadLetters(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	ctx := t.Context()
	b.rdb.Set(ctx, b.prefix+":barrier:g:expected", 2, 0)
	b.push(job{TaskID: "killer", SessionID: b.prefix, GroupID: "g", Do: "die"}, job{TaskID: "good", SessionID: b.prefix, GroupID: "g"})
	await(t, "both completions", func() bool { return b.rdb.Get(ctx, b.prefix+":barrier:g").Val() == "2" })
	if c := b.rdb.HGet(ctx, b.prefix+":completions:g", "killer").Val(); !strings.Contains(c, `"success":false`) {
		t.Errorf("completion %s", c)
	}
	if n := b.rdb.ZCard(ctx, b.prefix+":sidecar:dead").Val(); n != 1 {
		t.Errorf("%d dead letters", n)
	}
}

func TestARecordThatCannotBeReadIsPutAside(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	ctx := t.Context()
	for _, poison := range []string{"not json", "[1,2]", `{"task_id":7}`, "{}", "\xff\xfe", `{"task_id":"x"`} {
		b.rdb.RPush(ctx, b.prefix+":queue", poison)
	}
	b.push(job{TaskID: "after", SessionID: b.prefix})
	await(t, "the task behind them", func() bool { return b.result(b.prefix, "after") != "" })
	await(t, "the dead letters", func() bool { return b.rdb.ZCard(ctx, b.prefix+":sidecar:dead").Val() == 6 })
}

func TestAStopFinishesWhatRunsAndHandsBackTheRestInOrder(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *config.Config) { c.Slots = 1 })
	gate := filepath.Join(t.TempDir(), "gate")
	b.push(job{TaskID: "running", SessionID: b.prefix, Do: "gate", Path: gate})
	await(t, "it to start", func() bool { _, err := os.Stat(gate + ".started"); return err == nil })
	for i := range 5 {
		b.push(job{TaskID: fmt.Sprint("t", i), SessionID: b.prefix})
	}
	b.app.Stop()
	await(t, "the queue in its old order", func() bool { return strings.Join(b.queue(), " ") == "t0 t1 t2 t3 t4" })
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := within(t, 10*time.Second, b.app); err != nil {
		t.Errorf("stopped with %v", err)
	}
	if got := b.result(b.prefix, "running"); got != `"running done"` {
		t.Errorf("the running task's result: %s", got)
	}
	if got := strings.Join(b.queue(), " "); got != "t0 t1 t2 t3 t4" {
		t.Errorf("queue %s", got)
	}
	if left := b.leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestAnIdleStopIsQuick(t *testing.T) {
	t.Parallel()
	b := setup(t, nil)
	<-b.app.Ready()
	began, clock := time.Now(), machine.Watch(t)
	if err := b.app.Close(); err != nil {
		t.Error(err)
	}
	if d := clock.Since(began); d > time.Second {
		t.Errorf("took %v", d)
	}
}

func TestAbortHandsBackWhatRuns(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *config.Config) { c.Slots = 2 })
	dir := t.TempDir()
	b.push(job{TaskID: "a", SessionID: b.prefix, Do: "gate", Path: dir + "/a"}, job{TaskID: "b", SessionID: b.prefix, Do: "gate", Path: dir + "/b"})
	await(t, "both to start", func() bool { return len(b.queue()) == 0 })
	began, clock := time.Now(), machine.Watch(t)
	b.app.Abort()
	if err := within(t, 10*time.Second, b.app); err != nil {
		t.Errorf("stopped with %v", err)
	}
	if d := clock.Since(began); d > 2*time.Second {
		t.Errorf("took %v", d)
	}
	got := b.queue()
	slices.Sort(got) // two children end in any order
	if !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("queue %q", got)
	}
	if n := b.rdb.HLen(context.Background(), b.prefix+":sidecar:attempts").Val(); n != 0 {
		t.Error("a stop cost an attempt")
	}
}

func TestAWorkerThatCannotStartEndsTheSidecarAndLosesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *config.Config) { c.Worker.Command, c.Worker.StartRetries = []string{"/no/such/worker"}, 1 })
	b.push(job{TaskID: "a", SessionID: b.prefix})
	err := within(t, 10*time.Second, b.app)
	var failure *app.StartError
	if !errors.As(err, &failure) || !strings.Contains(err.Error(), "/no/such/worker") {
		t.Errorf("ended with %v", err)
	}
	if got := strings.Join(b.queue(), " "); got != "a" {
		t.Errorf("queue %q", got)
	}
}

// crashing makes workers that initialize, take whatever comes, and die.
func crashing(c *config.Config) {
	c.Slots, c.MaxAttempts = 2, 1000
	c.Worker.Env = append(c.Worker.Env, workerVariable+"=crash")
	c.Worker.RestartBackoffMin, c.Worker.RestartBackoffMax = time.Millisecond, 20*time.Millisecond
}

func TestACrashLoopIsNotReady(t *testing.T) {
	t.Parallel()
	b := setup(t, crashing)
	await(t, "the crash loop", func() bool { return b.app.Status().CrashLoop })
	if s := b.app.Status(); s.Ready {
		t.Errorf("ready in a crash loop: %+v", s)
	}
	var dump bytes.Buffer
	if err := b.app.Dump(&dump); err != nil || !strings.Contains(dump.String(), "crash_loop=true") {
		t.Errorf("%v: %.200s", err, dump.String())
	}
	if err := b.app.Close(); err != nil {
		t.Errorf("closed with %v", err)
	}
}

func TestACrashLoopEndsTheSidecarAndLosesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *config.Config) { crashing(c); c.Worker.CrashLoopExit = true })
	for i := range 5 { // they hang, since no worker lives to answer them
		b.push(job{TaskID: fmt.Sprint("t", i), SessionID: b.prefix, Do: "gate", Path: filepath.Join(t.TempDir(), "gate")})
	}
	err := within(t, 20*time.Second, b.app)
	var loop *app.CrashLoopError
	if !errors.As(err, &loop) || !strings.Contains(err.Error(), "out of luck") {
		t.Errorf("ended with %v", err)
	}
	queue := b.queue()
	slices.Sort(queue)
	if got := strings.Join(queue, " "); got != "t0 t1 t2 t3 t4" {
		t.Errorf("queue %q", got)
	}
	if left := b.leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestAWaitingTaskLendsItsSlot: the only slot's task waits for one that is
// pushed later, and says so in Status.
func TestAWaitingTaskLendsItsSlot(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *config.Config) { c.Slots = 1 })
	gate := filepath.Join(t.TempDir(), "gate")
	b.push(job{TaskID: "waits", SessionID: b.prefix, Do: "wait and gate", Path: gate})
	await(t, "the extra slot", func() bool {
		s := b.app.Status()
		return s.Extra == 1 && s.Capacity == 2 && len(s.Slots) == 2
	})
	var dump bytes.Buffer
	if err := b.app.Dump(&dump); err != nil {
		t.Error(err)
	}
	for _, want := range []string{" lent=1 ", "lent=true tasks=0", `task_id="waits"`, "waiting=true"} {
		if !strings.Contains(dump.String(), want) {
			t.Errorf("%q is not in the dump:\n%.600s", want, dump.String())
		}
	}
	b.push(job{TaskID: "nested", SessionID: b.prefix})
	await(t, "the nested task", func() bool { return b.result(b.prefix, "nested") != "" })
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	await(t, "the waiting task", func() bool { return b.result(b.prefix, "waits") != "" })
	await(t, "the end of the extra slot", func() bool { return b.app.Status().Extra == 0 })
	if err := b.app.Close(); err != nil {
		t.Errorf("closed with %v", err)
	}
	if left := b.leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestEmbeddedRedisStopsLast runs alone, since go-redis has one log for the whole process.
func TestEmbeddedRedisStopsLast(t *testing.T) {
	log := &testlog.Buffer{}
	cfg := settings(t, "", "graflow", log)
	cfg.Redis.Embedded = true
	a := start(t, cfg, log)
	<-a.Ready()
	if err := a.Close(); err != nil {
		t.Errorf("closed with %v", err)
	}
	var order []string
	for line := range strings.Lines(log.String()) {
		if _, rest, ok := strings.Cut(line, "stage has stopped\" stage="); ok {
			order = append(order, strings.Fields(strings.ReplaceAll(rest, `"local redis"`, "local-redis"))[0])
		}
	}
	want := "stop claim dispatch process report lease leave health redis local-redis"
	if got := strings.Join(order, " "); got != want {
		t.Errorf("stopped in the order %s\nwant %s", got, want)
	}
	for _, bad := range []string{"level=ERROR", "level=WARN", "panic", "refused", "closed network"} {
		if strings.Contains(log.String(), bad) {
			t.Errorf("the log has %q", bad)
		}
	}
}

// TestGracefulWorkerShutdown: waiting for the end of a stop with a timeout.
func TestGracefulWorkerShutdown(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *config.Config) { c.Slots = 1 })
	gate := filepath.Join(t.TempDir(), "gate")
	b.push(job{TaskID: "running", SessionID: b.prefix, Do: "gate", Path: gate})
	await(t, "it to start", func() bool { _, err := os.Stat(gate + ".started"); return err == nil })
	if s := b.app.Status(); !s.Ready || s.State != app.Running {
		t.Errorf("with a task running: %+v", s)
	}
	b.app.Stop()
	if s := b.app.Status(); s.Ready || s.State != app.Stopping {
		t.Errorf("right after Stop: %+v", s)
	}
	impatient, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := b.app.WaitContext(impatient); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with a task running: %v", err)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	patient, cancelPatient := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancelPatient()
	if err := b.app.WaitContext(patient); err != nil {
		t.Errorf("after it: %v", err)
	}
	if got := b.result(b.prefix, "running"); got != `"running done"` || b.app.Status().State != app.Stopped {
		t.Errorf("result %s, state %s", got, b.app.Status().State)
	}
}

// TestContextManagerPattern: Start and Close around a body, which may fail. It runs alone,
// since go-redis has one log for the whole process.
func TestContextManagerPattern(t *testing.T) {
	log := &testlog.Buffer{}
	cfg := settings(t, "", "graflow", log)
	cfg.Redis.Embedded = true
	var rdb *redis.Client
	errBody := errors.New("from the body")
	body := func() (err error) {
		a, err := app.Start(t.Context(), cfg)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, a.Close()) }()
		<-a.Ready()
		o, err := redis.ParseURL(a.RedisURL())
		if err != nil {
			return err
		}
		rdb = redis.NewClient(o)
		if err := rdb.RPush(t.Context(), "graflow:queue", `{"task_id":"a","session_id":"s","created_at":1.5}`).Err(); err != nil {
			return err
		}
		for rdb.Exists(t.Context(), "graflow:channel:s:a.__result__").Val() == 0 {
			if t.Context().Err() != nil {
				return t.Context().Err()
			}
		}
		return errBody
	}
	if err := body(); !errors.Is(err, errBody) || err.Error() != errBody.Error() {
		t.Errorf("ended with %v", err)
	}
	text := log.String() // go-redis also logs what the test's own client does
	defer rdb.Close()
	if err := rdb.Ping(t.Context()).Err(); err == nil {
		t.Error("redis is still there")
	}
	for _, bad := range []string{"level=ERROR", "level=WARN", "panic", "refused", "closed network"} {
		if strings.Contains(text, bad) {
			t.Errorf("the log has %q:\n%s", bad, text)
		}
	}
}
