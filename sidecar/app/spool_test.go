package app_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/app"
	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report/spool"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// private is a sidecar on a Redis of its own, which the test may stop.
func private(t *testing.T, instance *redistest.Instance, prefix string, change func(*config.Config)) *bundle {
	t.Helper()
	b := &bundle{t: t, rdb: instance.Client(), prefix: prefix, log: &testlog.Buffer{}}
	cfg := settings(t, instance.URL, prefix, b.log)
	if change != nil {
		change(&cfg)
	}
	b.app = start(t, cfg, b.log)
	return b
}

// TestSpooledOutcomesAreReportedByTheNextStart: Redis dies while a task runs,
// the sidecar is stopped, and when both are back the task is not run again.
func TestSpooledOutcomesAreReportedByTheNextStart(t *testing.T) {
	t.Parallel()
	for _, takenOver := range []bool{false, true} {
		name := "the record is still ours"
		if takenOver {
			name = "the record was taken over"
		}
		t.Run(name, func(t *testing.T) {
			instance := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
			dir := t.TempDir()
			gate := filepath.Join(dir, "gate")
			spooling := func(c *config.Config) {
				c.SpoolDir, c.ShutdownTimeout = dir, 2*time.Second
				c.Redis.DialTimeout, c.Redis.ReadTimeout = time.Second, time.Second
			}
			b := private(t, instance, "p", spooling)
			b.push(job{TaskID: "t", SessionID: "s", Do: "gate", Path: gate})
			await(t, "the task to start", func() bool { _, err := os.Stat(gate + ".started"); return err == nil })

			instance.Kill()
			b.app.Stop()
			if err := os.WriteFile(gate, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := within(t, 10*time.Second, b.app); err != nil {
				t.Fatalf("stopped with %v", err)
			}
			if !strings.Contains(b.log.String(), "outcomes are spooled") {
				t.Error("the log does not say that outcomes are spooled")
			}
			if files, _ := filepath.Glob(dir + "/*.spool"); len(files) != 1 {
				t.Fatalf("spool files: %v", files)
			}

			instance.Restart()
			if takenOver { // by another sidecar that has finished it: nothing of the old run is left
				takeAll(t, instance.Client(), "p")
			}
			if err := os.Remove(gate); err != nil { // a second run would never end
				t.Fatal(err)
			}
			again := private(t, instance, "p", spooling)
			await(t, "the spool to be applied", func() bool {
				files, _ := filepath.Glob(dir + "/*.spool")
				return len(files) == 0
			})
			if takenOver {
				if !strings.Contains(again.log.String(), "superseded") || again.result("s", "t") != "" {
					t.Errorf("result %q; the outcome should have been dropped", again.result("s", "t"))
				}
				return
			}
			if got := again.result("s", "t"); got != `"t done"` {
				t.Errorf("result %q", got)
			}
			<-again.app.Ready()
			if q := again.queue(); len(q) != 0 {
				t.Errorf("the record is in the queue again: %v", q)
			}
		})
	}
}

// takeAll empties every in-flight hash, as a reaper does.
func takeAll(t *testing.T, rdb *redis.Client, prefix string) {
	t.Helper()
	keys, err := rdb.Keys(context.Background(), prefix+":sidecar:inflight:*").Result()
	if err != nil || len(keys) != 1 {
		t.Fatalf("in-flight hashes: %v, %v", keys, err)
	}
	if err := rdb.Del(context.Background(), keys...).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestASpoolOfAnotherRedisIsLeftAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "w-1.spool")
	header := `{"run":"w-1","server":"redis://elsewhere:6379/0","prefix":"graflow","at":"2026-01-01T00:00:00Z"}` + "\n"
	if err := os.WriteFile(file, []byte(header), 0o600); err != nil {
		t.Fatal(err)
	}
	b := setup(t, func(c *config.Config) { c.SpoolDir = dir })
	<-b.app.Ready()
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	await(t, "the log to say so", func() bool { return strings.Contains(b.log.String(), "spool file of another redis or prefix") })
}

// TestASpoolThatCannotBeReportedBlocksNothing: a file whose outcomes Redis refuses for
// good, and one that cannot be read, are named and kept.
func TestASpoolThatCannotBeReportedBlocksNothing(t *testing.T) {
	t.Parallel()
	instance := redistest.Start(t)
	rdb, dir := instance.Client(), t.TempDir()
	name := filepath.Join(dir, "w-1.spool")
	path, err := spool.Folder{Path: dir}.Write(t.Context(), spool.Header{Run: "w-1", Server: instance.URL, Prefix: "p"}, []task.Outcome{
		{Task: task.Task{Delivery: "w-1.1", Seq: 1, Info: task.Info{TaskID: "t", SessionID: "s"}}, Conclusion: task.Succeeded, Value: []byte("1"), EndedAt: time.Now()},
	})
	if err != nil || path != name {
		t.Fatal(path, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "w-2.spool"), []byte("no spool file"), 0o600); err != nil {
		t.Fatal(err)
	}
	// A key of another type: Redis refuses what is reported for that run, for good.
	if err := rdb.Set(t.Context(), "p:sidecar:inflight:w-1", "x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	b := private(t, instance, "p", func(c *config.Config) { c.SpoolDir = dir })
	b.push(job{TaskID: "fresh", SessionID: "s", Do: "echo"})
	await(t, "a fresh task to end", func() bool { return b.result("s", "fresh") != "" })
	await(t, "the log to name both", func() bool {
		log := b.log.String()
		return strings.Contains(log, "spool file cannot be reported and is kept") && strings.Contains(log, name) &&
			strings.Contains(log, "spool file cannot be used and is skipped")
	})
	b.app.Stop()
	if err := within(t, 10*time.Second, b.app); err != nil {
		t.Fatal(err)
	}
	if files, _ := filepath.Glob(dir + "/*.spool"); len(files) != 2 {
		t.Errorf("left are %v", files)
	}
}

// TestTheRunOfASpoolIsKeptWhileItIsReported: the lease of its run is kept.
func TestTheRunOfASpoolIsKeptWhileItIsReported(t *testing.T) {
	t.Parallel()
	instance := redistest.Start(t)
	rdb, dir := instance.Client(), t.TempDir()
	var outcomes []task.Outcome
	for i := range 12 {
		id := fmt.Sprint("t", i)
		o := task.Outcome{
			Task:       task.Task{Delivery: fmt.Sprint("w-1.", i+1), Seq: int64(i + 1), Record: []byte(`{"task_id":"` + id + `","session_id":"s"}`), Info: task.Info{TaskID: id, SessionID: "s"}},
			Conclusion: task.Succeeded, Value: []byte(`"` + strings.Repeat("x", 1<<20) + `"`), EndedAt: time.Now(),
		}
		outcomes = append(outcomes, o)
		rdb.HSet(t.Context(), "p:sidecar:inflight:w-1", o.Task.Delivery, o.Task.Record)
	}
	rdb.SAdd(t.Context(), "p:sidecar:runs", "w-1")
	if _, err := (spool.Folder{Path: dir}).Write(t.Context(), spool.Header{Run: "w-1", Server: instance.URL, Prefix: "p"}, outcomes); err != nil {
		t.Fatal(err)
	}
	b := private(t, instance, "p", func(c *config.Config) { c.SpoolDir = dir })
	await(t, "the spool to be applied", func() bool { files, _ := filepath.Glob(dir + "/*.spool"); return len(files) == 0 })
	for _, o := range outcomes {
		if b.result("s", o.Task.Info.TaskID) != string(o.Value) {
			t.Errorf("%s has no result", o.Task.Info.TaskID)
		}
	}
	if log := b.log.String(); strings.Contains(log, "is superseded") {
		t.Error("some outcome was superseded")
	}
	if left := rdb.Keys(t.Context(), "p:sidecar:*w-1*").Val(); len(left) > 0 {
		t.Errorf("left are %v", left)
	}
}

// TestASpoolFileOutlivesAnOutage: it is deleted only when Redis has answered
// for all that is in it; a start that is stopped before leaves it there.
func TestASpoolFileOutlivesAnOutage(t *testing.T) {
	t.Parallel()
	instance := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	rdb, dir := instance.Client(), t.TempDir()
	spooling := func(c *config.Config) { c.SpoolDir, c.ShutdownTimeout = dir, 2*time.Second }
	outcome := task.Outcome{
		Task:       task.Task{Delivery: "w-1.1", Seq: 1, Record: []byte(`{"task_id":"t","session_id":"s"}`), Info: task.Info{TaskID: "t", SessionID: "s"}},
		Conclusion: task.Succeeded,
		Value:      []byte(`"kept"`),
		EndedAt:    time.Now(),
	}
	path, err := spool.Folder{Path: dir}.Write(t.Context(), spool.Header{Run: "w-1", Server: instance.URL, Prefix: "p"}, []task.Outcome{outcome})
	if err != nil {
		t.Fatal(err)
	}
	if err := rdb.HSet(t.Context(), "p:sidecar:inflight:w-1", "w-1.1", outcome.Task.Record).Err(); err != nil {
		t.Fatal(err)
	}
	instance.Kill()
	b := private(t, instance, "p", spooling)
	await(t, "the loss of Redis", func() bool { return b.app.Status().RedisLost })
	b.app.Stop()
	if err := within(t, 10*time.Second, b.app); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("the file is gone, and Redis has heard of nothing: %v", err)
	}
	instance.Restart()
	again := private(t, instance, "p", spooling)
	await(t, "the file to be gone", func() bool { _, err := os.Stat(path); return errors.Is(err, fs.ErrNotExist) })
	if got := again.result("s", "t"); got != `"kept"` {
		t.Errorf("result %q", got)
	}
}

func TestASpoolThatCannotBeWrittenIsSaidAtTheStart(t *testing.T) {
	t.Parallel()
	cfg := settings(t, "redis://localhost:1/0", "p", &testlog.Buffer{})
	cfg.SpoolDir = "/dev/null/spool"
	a, err := app.Start(t.Context(), cfg)
	if err == nil {
		_ = a.Close()
	}
	if wrong, ok := errors.AsType[*config.Error](err); !ok || !strings.Contains(wrong.Error(), "SIDECAR_SPOOL_DIR") {
		t.Errorf("started with %v", err)
	}
}
