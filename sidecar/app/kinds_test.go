package app_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/config"
)

// kinds makes a sidecar's worker several of them, with so many slots each.
func kinds(c *config.Config, slots int, patterns ...string) {
	w := c.Worker
	for _, p := range patterns {
		c.Kinds = append(c.Kinds, config.Kind{Pattern: p, Mode: config.ModeRPC, Slots: slots, Worker: w})
	}
	c.Worker.Command = nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func open(t *testing.T, gate string) {
	t.Helper()
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAKindThatIsFullDoesNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *config.Config) {
		kinds(c, 1, "a*", "b*")
		c.Kinds = append(c.Kinds, config.Kind{Pattern: "*", Mode: config.ModeExec, Slots: 2, Worker: c.Kinds[0].Worker})
		c.Kinds[2].Worker.Command = []string{"sh", "-c", `echo "$SIDECAR_TASK_ID by exec"`}
	})
	gate := t.TempDir() + "/gate"
	b.push(job{TaskID: "a1", SessionID: b.prefix, Do: "gate", Path: gate})
	await(t, "the first task to start", func() bool { return exists(gate + ".started") })
	b.push(job{TaskID: "a2", SessionID: b.prefix}, job{TaskID: "a3", SessionID: b.prefix})
	for i := range 10 {
		b.push(job{TaskID: fmt.Sprint("b", i), SessionID: b.prefix}, job{TaskID: fmt.Sprint("c", i), SessionID: b.prefix})
	}
	await(t, "those of the other kinds", func() bool {
		for i := range 10 {
			if b.result(b.prefix, fmt.Sprint("b", i)) == "" || b.result(b.prefix, fmt.Sprint("c", i)) != fmt.Sprintf(`"c%d by exec"`, i) {
				return false
			}
		}
		return true
	})
	if got := strings.Join(b.queue(), " "); got != "a2 a3" {
		t.Errorf("queue: %s", got)
	}
	s := b.app.Status()
	if !s.Ready || s.Workers != 4 || s.Capacity != 4 {
		t.Errorf("status: %+v", s)
	}
	seen := map[int]string{}
	for _, slot := range s.Slots {
		if other, twice := seen[slot.Slot]; twice {
			t.Errorf("slot %d is one of %s and of %s", slot.Slot, other, slot.Kind)
		}
		seen[slot.Slot] = slot.Kind
		if want := slot.Kind == "a*"; want != (len(slot.Tasks) == 1) {
			t.Errorf("slot %+v", slot)
		}
	}
	var dump strings.Builder
	if err := b.app.Dump(&dump); err != nil || !strings.Contains(dump.String(), ` tasks=1 kind="a*"`) {
		t.Errorf("dump: %v\n%.1000s", err, dump.String())
	}
	open(t, gate)
	await(t, "the rest", func() bool { return b.result(b.prefix, "a3") != "" })
	if err := b.app.Close(); err != nil {
		t.Error(err)
	}
	if left := b.leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestATaskOfNoKindIsADeadLetter(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *config.Config) {
		kinds(c, 1, "a*")
		c.UnroutedTimeout = 1500 * time.Millisecond
	})
	ctx := t.Context()
	b.rdb.Set(ctx, b.prefix+":barrier:g:expected", 2, 0)
	// The kind's slot is taken all the time: the sidecar must look at the queue all the same.
	gate := t.TempDir() + "/gate"
	b.push(job{TaskID: "a", SessionID: b.prefix, GroupID: "g", Do: "gate", Path: gate})
	await(t, "the slot to be taken", func() bool { return exists(gate + ".started") })
	record := "{\"created_at\": 1.50, \"group_id\":\"g\",\n \"task_id\": \"n\\u006fbody\", \"session_id\": \"s\"}"
	b.rdb.RPush(ctx, b.prefix+":queue", record)
	await(t, "it to be unrouted", func() bool { return b.rdb.LLen(ctx, b.prefix+":sidecar:unrouted").Val() == 1 })
	if n := b.rdb.HLen(ctx, b.prefix+":completions:g").Val(); n != 0 {
		t.Errorf("%d completions at once", n)
	}
	await(t, "its completion", func() bool { return b.rdb.HExists(ctx, b.prefix+":completions:g", "nobody").Val() })
	completion := b.rdb.HGet(ctx, b.prefix+":completions:g", "nobody").Val()
	if !strings.Contains(completion, `"success":false`) || !strings.Contains(completion, `no kind of worker takes a task called \"nobody\"`) {
		t.Errorf("completion %s", completion)
	}
	dead := b.rdb.ZRange(ctx, b.prefix+":sidecar:dead", 0, -1).Val()
	if len(dead) != 1 {
		t.Fatalf("dead letters: %v", dead)
	}
	letter := b.rdb.HGetAll(ctx, b.prefix+":sidecar:dead:"+dead[0]).Val()
	if letter["raw"] != record || letter["reason"] != "unrouted" || letter["task_id"] != "nobody" {
		t.Errorf("dead letter: %q", letter)
	}
	open(t, gate)
	await(t, "the barrier", func() bool { return b.rdb.Get(ctx, b.prefix+":barrier:g").Val() == "2" })
	if n := b.rdb.Exists(ctx, b.prefix+":sidecar:unrouted").Val(); n != 0 {
		t.Error("it is still among the unrouted ones")
	}
}

// What one sidecar has no worker for, another takes that has, also one with a
// single worker for everything.
func TestASidecarTakesWhatAnotherCannot(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*config.Config){
		"by kinds":   func(c *config.Config) { kinds(c, 1, "z", "x*") },
		"everything": func(*config.Config) {},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t, func(c *config.Config) {
				kinds(c, 1, "a*")
				c.UnroutedTimeout = time.Minute
			})
			for i := range 5 {
				b.push(job{TaskID: fmt.Sprint("x", i), SessionID: b.prefix}, job{TaskID: fmt.Sprint("a", i), SessionID: b.prefix})
			}
			await(t, "the tasks between them", func() bool { return b.result(b.prefix, "a4") != "" })
			await(t, "them to be unrouted", func() bool { return b.rdb.LLen(t.Context(), b.prefix+":sidecar:unrouted").Val() == 5 })
			cfg := settings(t, "redis://"+b.rdb.Options().Addr, b.prefix, b.log)
			change(&cfg)
			start(t, cfg, b.log)
			await(t, "all of them", func() bool {
				for i := range 5 {
					if b.result(b.prefix, fmt.Sprint("x", i)) == "" {
						return false
					}
				}
				return true
			})
			if n := b.rdb.ZCard(t.Context(), b.prefix+":sidecar:dead").Val(); n != 0 {
				t.Errorf("%d dead letters", n)
			}
		})
	}
}

// A kind whose workers keep dying leaves its tasks in the queue, and the others
// go on.
func TestAKindInACrashLoop(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *config.Config) {
		c.Worker.RestartBackoffMax = 200 * time.Millisecond
		kinds(c, 1, "a*", "b*")
		w := &c.Kinds[0].Worker
		w.Env = append(append([]string{}, w.Env...), workerVariable+"=crash")
	})
	await(t, "the crash loop", func() bool { return b.app.Status().CrashLoop })
	if b.app.Status().Ready {
		t.Error("ready in a crash loop")
	}
	b.push(job{TaskID: "b1", SessionID: b.prefix})
	await(t, "the other kind's task", func() bool { return b.result(b.prefix, "b1") != "" })
	b.app.Stop()
	if err := within(t, 20*time.Second, b.app); err != nil {
		t.Error(err)
	}
}

func TestAKindThatNeverStartsEndsTheSidecar(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *config.Config) {
		c.Worker.StartRetries, c.Worker.RestartBackoffMin = 1, time.Millisecond
		kinds(c, 1, "a*", "b*")
		c.Kinds[1].Worker.Command = []string{"/no/such/worker"}
	})
	err := within(t, 20*time.Second, b.app)
	if failure, ok := errors.AsType[*app.StartError](err); !ok || failure.Attempts != 2 || !strings.Contains(err.Error(), "tasks b*: ") {
		t.Errorf("ended with %v", err)
	}
	if left := b.leftovers(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestKindsAreChecked(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*config.Config){
		`pattern "b" stands behind "*"`:               func(c *config.Config) { kinds(c, 1, "*", "b") },
		`the kind "a" has 0 slots`:                    func(c *config.Config) { kinds(c, 0, "a") },
		"Worker has a command, and Kinds have others": func(c *config.Config) { kinds(c, 1, "a"); c.Worker.Command = []string{"x"} },
		`the kind "a" has no worker command`:          func(c *config.Config) { kinds(c, 1, "a"); c.Kinds[0].Worker.Command = nil },
		`the mode of the kind "a" is "supervise"`:     func(c *config.Config) { kinds(c, 1, "a"); c.Kinds[0].Mode = config.ModeSupervise },
		`Mode is "exec", and must be rpc with Kinds`:  func(c *config.Config) { kinds(c, 1, "a"); c.Mode = config.ModeExec },
		"UnroutedTimeout is 0s":                       func(c *config.Config) { kinds(c, 1, "a"); c.UnroutedTimeout = 0 },
		`the kind "a" is Graflow's, which is for ModeRPC`: func(c *config.Config) {
			kinds(c, 1, "a")
			c.Kinds[0].Mode, c.Kinds[0].Worker.Graflow = config.ModeExec, true
		},
	} {
		cfg := settings(t, "redis://localhost:1", "p", nil)
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
