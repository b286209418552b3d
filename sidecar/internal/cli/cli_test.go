package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/fleet"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
)

func TestMain(m *testing.M) {
	for _, entry := range os.Environ() { // no setting of the machine's is ours
		if name, _, _ := strings.Cut(entry, "="); strings.HasPrefix(name, "SIDECAR_") || strings.HasPrefix(name, "REDIS_") {
			_ = os.Unsetenv(name)
		}
	}
	// Stderr's queue is the process's own.
	goleak.VerifyTestMain(m, append(redistest.LeakOptions(), goleak.IgnoreAnyFunction("github.com/graflow/graflow-sidecar/sidecar/internal/observe/logging.(*Queue).run"))...)
}

// bench is a Redis with a prefix of its own and a terminal.
type bench struct {
	t      *testing.T
	ctx    context.Context
	url    string
	prefix string
	rdb    *goredis.Client
	st     *redis.Store
}

func newBench(t *testing.T) *bench {
	t.Helper()
	server := redistest.New(t)
	b := &bench{t: t, ctx: t.Context(), url: server.URL, prefix: redistest.Prefix(t), rdb: server.Client()}
	c, err := redis.NewClient(redis.ClientOptions{URL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	if b.st, err = redis.New(c, redis.Options{Prefix: b.prefix}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.st.Close() })
	return b
}

func (b *bench) must(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

// run executes a command line and gives what it printed, and its error.
func (b *bench) run(in string, args ...string) (stdout, stderr string, err error) {
	b.t.Helper()
	root := &cobra.Command{Use: "sidecar", SilenceErrors: true, SilenceUsage: true}
	root.AddCommand(Commands(Options{TestWorker: func(_ context.Context, command []string) (int, []string, error) {
		if command[0] == "good" {
			return 9, nil, nil
		}
		return 8, []string{"start/answers: silence"}, nil
	}})...)
	var out, errOut bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errOut)
	root.SetIn(strings.NewReader(in))
	if args[0] != "__complete" {
		args = append([]string{args[0]}, args[1:]...)
	}
	root.SetArgs(args)
	b.t.Setenv("REDIS_URL", b.url)
	b.t.Setenv("REDIS_KEY_PREFIX", b.prefix)
	err = root.ExecuteContext(b.ctx)
	return out.String(), errOut.String(), err
}

func (b *bench) out(args ...string) string {
	b.t.Helper()
	out, _, err := b.run("", args...)
	if err != nil {
		b.t.Fatalf("sidecar %s: %v", strings.Join(args, " "), err)
	}
	return out
}

// status is the exit status that main would give.
func status(err error) int {
	own, usage, wrong := new(StatusError), new(config.UsageError), new(config.Error)
	switch {
	case err == nil:
		return 0
	case errors.As(err, &own):
		return own.Status
	case errors.As(err, &usage):
		return 64
	case errors.As(err, &wrong):
		return 78
	}
	return 64 // cobra's own
}

func (b *bench) fails(want int, says string, args ...string) {
	b.t.Helper()
	_, _, err := b.run("", args...)
	if status(err) != want || !strings.Contains(fmt.Sprint(err), says) || strings.Contains(fmt.Sprint(err), "\n") {
		b.t.Errorf("sidecar %s: status %d, %v; want %d and %q", strings.Join(args, " "), status(err), err, want, says)
	}
}

func has(t *testing.T, text string, wanted ...string) {
	t.Helper()
	for _, w := range wanted {
		if !strings.Contains(text, w) {
			t.Errorf("%q is not in:\n%s", w, text)
		}
	}
}

// member registers a run that says of itself what r does.
func (b *bench) member(r fleet.Run) string {
	b.t.Helper()
	r.ID = redis.NewRunID(r.WorkerID)
	b.must(b.st.Register(b.ctx, r.ID))
	text, err := json.Marshal(r)
	b.must(err)
	b.must(b.rdb.Set(b.ctx, b.prefix+":sidecar:info:"+r.ID, text, time.Hour).Err())
	return r.ID
}

func (b *bench) claim(run string, records ...string) []redis.Claimed {
	b.t.Helper()
	for _, r := range records {
		b.must(b.rdb.RPush(b.ctx, b.prefix+":queue", r).Err())
	}
	claimed, err := b.st.Claim(b.ctx, run, redis.NewRunID("n"), len(records))
	b.must(err)
	return claimed
}

// bury makes a dead letter.
func (b *bench) bury(run, record, task, message string) string {
	b.t.Helper()
	c := b.claim(run, record)[0]
	_, err := b.st.Report(b.ctx, run, []redis.Report{{Delivery: c.Delivery, TaskID: task, SessionID: "s", Dead: &redis.DeadLetter{
		Reason: "attempts", Message: message, Stderr: "line\x1b]0;title\x07", Attempts: 3,
	}}})
	b.must(err)
	return c.Delivery
}

const evil = "\x1b[31mred\u202e\u009b2J"

func TestStatus(t *testing.T) {
	b := newBench(t)
	has(t, b.out("status"), "no sidecar is running", "queue 0")
	run := b.member(fleet.Run{WorkerID: "w", Host: "node" + evil, State: "running", Slots: 4, Busy: 1, Since: time.Now().Add(-time.Hour), HTTP: "127.0.0.1:8000"})
	b.must(b.st.Register(b.ctx, "old-one"))
	id := b.bury(run, "rubbish", "t"+evil, "no luck"+evil)
	b.must(b.st.Pause(b.ctx, fleet.AllRuns, "me"))
	out := b.out("status")
	has(t, out, run, "running, paused", "1/4", "1h00m", "127.0.0.1:8000", "unknown", "ALL ARE PAUSED", id, `\x1b[31mred\u202e\u009b2J`)
	if strings.ContainsAny(out, "\x1b\u202e\u009b\x07") {
		t.Errorf("control characters reach the terminal: %q", out)
	}
	var o overview
	text := b.out("status", "-o", "json")
	if err := json.Unmarshal([]byte(text), &o); err != nil || len(o.Runs) != 2 || o.Queue.Dead != 1 || o.Letters[0].Message != "no luck"+evil {
		t.Errorf("%v %+v", err, o)
	}
	if strings.ContainsAny(text, "\x1b\u202e\u009b\x07") {
		t.Errorf("control characters in JSON: %q", text)
	}
}

func TestWatch(t *testing.T) {
	b := newBench(t)
	ctx, cancel := context.WithCancel(t.Context())
	b.ctx = ctx
	var out cancelAfter
	out.cancel, out.want = cancel, 3
	p := &printer{w: &out}
	cfg := app.DefaultConfig()
	s := &session{st: b.st, cfg: cfg, out: p, errOut: &out}
	if err := s.watch(ctx, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(out.String(), "no sidecar is running"); n < 3 || strings.Contains(out.String(), "\x1b") {
		t.Errorf("%d views in\n%q", n, out.String())
	}
}

// cancelAfter ends a watch when it has shown so many views.
type cancelAfter struct {
	bytes.Buffer
	cancel context.CancelFunc
	want   int
}

func (c *cancelAfter) Write(b []byte) (int, error) {
	n, err := c.Buffer.Write(b)
	if strings.Count(c.String(), "no sidecar is running") >= c.want {
		c.cancel()
	}
	return n, err
}

func TestQueueAndTasks(t *testing.T) {
	b := newBench(t)
	has(t, b.out("queue", "peek"), "the queue is empty")
	has(t, b.out("tasks"), "nothing is in flight")
	if got := strings.TrimSpace(b.out("tasks", "-o", "json")); got != "[]" {
		t.Error(got)
	}
	run := redis.NewRunID("w")
	b.must(b.st.Register(b.ctx, run))
	c := b.claim(run, `{"task_id":"running","group_id":"g"}`, `{"task_id":"claimed"}`)
	half := 0.5
	text, _ := json.Marshal(fleet.Run{Host: "h", Children: []fleet.Child{{Slot: 3, PID: 99, Tasks: []fleet.Task{
		{Delivery: c[0].Delivery, Attempt: 2, Since: time.Now(), Progress: &half, Message: "half way"},
	}}}})
	b.must(b.rdb.Set(b.ctx, b.prefix+":sidecar:info:"+run, text, 0).Err())
	has(t, b.out("tasks"), "running", "claimed", "held", "99", "50% half way", run)
	b.must(b.rdb.RPush(b.ctx, b.prefix+":queue", `{"task_id":"a","created_at":1}`, "\xff").Err())
	has(t, b.out("queue", "peek"), "a ", "not UTF-8")
	has(t, b.out("status"), "queue 2 (oldest unknown)")
	if text := b.out("status", "-o", "json"); strings.Contains(text, `"oldest"`) {
		t.Errorf("an age that is not known: %s", text)
	}
	has(t, b.out("queue", "peek", "-n", "1", "-o", "json"), `"task_id": "a"`, `"created_at": 1`)
	b.fails(64, "--number", "queue", "peek", "-n", "0")
	b.fails(64, "needs a command", "queue")
}

func TestDeadLetters(t *testing.T) {
	b := newBench(t)
	has(t, b.out("dead", "list"), "there are no dead letters")
	has(t, b.out("dead", "drop", "--all", "--yes"), "there are no dead letters")
	run := b.member(fleet.Run{WorkerID: "w"})
	var ids []string
	for i := range 3 {
		ids = append(ids, b.bury(run, fmt.Sprintf(`{"task_id":"t%d","x":"%d\u001b"}`, i, i), fmt.Sprint("t", i), "lost"))
	}
	has(t, b.out("dead", "list"), ids[0], ids[1], ids[2], "attempts")
	out := b.out("dead", "show", ids[1])
	has(t, out, "t1", `line\x1b]0;title\a`, `{"task_id":"t1","x":"1\u001b"}`)
	has(t, b.out("dead", "show", ids[1], "-o", "json"), `"record": {`, `"stderr": "line\u001b`)
	b.fails(1, "no dead letter nope", "dead", "show", "nope")
	b.fails(64, "any of these", "dead", "show", run)
	b.fails(64, "or --all", "dead", "requeue")
	b.fails(64, "give --yes", "dead", "requeue", "--all")
	b.fails(64, "give --yes", "dead", "drop", "--all")
	has(t, b.out("dead", "requeue", ids[0]), ids[0], "requeued")
	has(t, b.out("queue", "peek"), "t0")
	b.fails(1, "no dead letter", "dead", "requeue", ids[0])
	has(t, b.out("dead", "drop", ids[1], "-o", "json"), "dropped")
	has(t, b.out("dead", "requeue", "--all", "-y"), ids[2])
	has(t, b.out("dead", "list"), "there are no dead letters")
	completed, _, err := b.run("", "__complete", "dead", "show", "")
	if err != nil || strings.Contains(completed, ids[0]) {
		t.Errorf("%v %s", err, completed)
	}
}

func TestRequeueSaysWhyNot(t *testing.T) {
	b := newBench(t)
	run := b.member(fleet.Run{WorkerID: "w"})
	c := b.claim(run, `{"task_id":"t","group_id":"g","created_at":1}`)[0]
	_, err := b.st.Report(b.ctx, run, []redis.Report{{
		Delivery: c.Delivery, TaskID: "t", GroupID: "g", CreatedAt: "1",
		Dead: &redis.DeadLetter{Reason: "attempts"},
	}})
	b.must(err)
	out, _, err := b.run("", "dead", "requeue", c.Delivery)
	if status(err) != 1 {
		t.Errorf("status %d", status(err))
	}
	has(t, out, "its group is over", "--force")
	has(t, b.out("dead", "requeue", "--force", c.Delivery, "-o", "json"), `"requeued"`)
}

func TestOrders(t *testing.T) {
	b := newBench(t)
	b.fails(1, "no sidecar has the id", "drain", "nobody")
	one := b.member(fleet.Run{WorkerID: "w", Host: "h1"})
	two := b.member(fleet.Run{WorkerID: "w", Host: "h2"})
	b.fails(64, one, "drain", "w")
	b.fails(64, "or --all", "pause")
	b.fails(64, "or --all", "pause", "--all", one)
	has(t, b.out("pause", one[:len(one)-3]), "paused: "+one)
	has(t, b.out("pause", "--all"), "all sidecars")
	_, stderr, err := b.run("", "resume", "h1")
	if err != nil || !strings.Contains(stderr, "whole prefix is still paused") {
		t.Errorf("%v %s", err, stderr)
	}
	has(t, b.out("resume", "--all", "-o", "json"), `"action": "resume"`)
	b.out("drain", "h2")
	b.out("children", "restart", two)
	has(t, b.out("children", "restart", two, "--slot", "0", "-o", "json"), `"slot": 0`)
	b.fails(64, "--slot", "children", "restart", two, "--slot", "-2")
	tick, err := b.st.Tick(b.ctx, two, nil, "")
	b.must(err)
	var got []string
	for _, o := range tick.Commands {
		got = append(got, fmt.Sprint(o.Action, o.Slot, o.By == whoami()))
	}
	if fmt.Sprint(got, tick.Paused, tick.AllPaused) != "[drain0 true restart-children0 true restart-child0 true] false false" {
		t.Error(got, tick)
	}
	completed, _, err := b.run("", "__complete", "drain", "")
	if err != nil {
		t.Fatal(err)
	}
	has(t, completed, one, two, "h1")
}

func TestRedisErrors(t *testing.T) {
	b := newBench(t)
	b.must(b.rdb.Do(b.ctx, "acl", "setuser", "looker-"+b.prefix, "on", ">pw", "~"+b.prefix+":*", "+@read", "+@connection", "+time", "+info").Err())
	t.Cleanup(func() { _ = b.rdb.Do(context.Background(), "acl", "deluser", "looker-"+b.prefix).Err() })
	url := strings.Replace(b.url, "://", "://looker-"+b.prefix+":pw@", 1)
	for _, look := range [][]string{{"status"}, {"queue", "peek"}, {"tasks"}, {"dead", "list"}} {
		if _, _, err := b.run("", append(look, "--redis-url", url)...); err != nil {
			t.Errorf("%v with +@read: %v", look, err)
		}
	}
	b.fails(69, "refuses", "pause", "--all", "--redis-url", url)
	b.fails(69, "refuses", "status", "--redis-url", strings.Replace(url, ":pw@", ":wrong@", 1))
	b.fails(75, "cannot be reached", "status", "--redis-url", "redis://127.0.0.1:1/0")
	b.fails(78, "embedded", "status", "--redis-url", "embedded")
	b.fails(64, "--redis-port", "status", "--redis-port", "many")
	b.fails(64, "table or json", "status", "-o", "xml")
	out, _, err := b.run("", "doctor", "--redis-url", url)
	if status(err) != 1 {
		t.Errorf("status %d", status(err))
	}
	has(t, out, "bad      permissions", "sidecar explain doctor-permissions")
}

func TestConfig(t *testing.T) {
	b := newBench(t)
	t.Setenv("SIDECAR_MAX_ATTEMPTS", "7")
	secret := "hunter2"
	b.url = "redis://me:" + secret + "@redis.example:6380/2?password=" + secret
	t.Setenv("REDIS_TLS_URL", "rediss://:"+secret+"@h")
	out := b.out("config", "--max-concurrent-tasks", "9")
	has(t, out, "workers do not get: ", "REDIS_TLS_URL")
	has(t, out, "SIDECAR_MAX_ATTEMPTS", "--max-concurrent-tasks", "environment", "default", "redis://"+config.Masked+"@redis.example:6380/2")
	if strings.Contains(out, secret) {
		t.Error("the password is shown")
	}
	out = b.out("config", "--redis-host", "other", "--changed", "-o", "json")
	var shown struct {
		Settings []config.Value `json:"settings"`
		Withheld []string       `json:"withheld_from_workers"`
	}
	b.must(json.Unmarshal([]byte(out), &shown))
	if !slices.Contains(shown.Withheld, "REDIS_TLS_URL") || slices.Contains(shown.Withheld, "PATH") {
		t.Errorf("withheld: %q", shown.Withheld)
	}
	sources := make(map[string]string)
	for _, v := range shown.Settings {
		sources[v.Name] = v.Source
	}
	want := map[string]string{"REDIS_URL": "ignored", "REDIS_HOST": "flag", "REDIS_KEY_PREFIX": "environment", "SIDECAR_MAX_ATTEMPTS": "environment"}
	if fmt.Sprint(sources) != fmt.Sprint(want) || strings.Contains(out, secret) {
		t.Errorf("%v in %s", sources, out)
	}
	t.Setenv("SIDECAR_MAX_ATTEMPTS", "many")
	out, _, err := b.run("", "config")
	if status(err) != 78 {
		t.Errorf("status %d, %v", status(err), err)
	}
	has(t, out, "many")
}

// TestCommandsNameAKeyOfAnotherType: Redis' own WRONGTYPE does not say which key it is.
func TestCommandsNameAKeyOfAnotherType(t *testing.T) {
	b := newBench(t)
	key := b.prefix + ":queue"
	b.must(b.rdb.Set(b.ctx, key, "x", 0).Err())
	for _, args := range [][]string{{"status"}, {"queue", "peek"}, {"enqueue", "--task", "t"}} {
		b.fails(69, "the key "+key+" is a string, and must be a list", args...)
	}
}
