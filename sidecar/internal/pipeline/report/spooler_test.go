package report_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report/spool"
	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis/link"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultfs"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redismodel"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

const (
	spoolDir  = "/spool"
	spoolFile = spoolDir + "/w-1.spool"
)

// spoolWorld is a run that has ended with four deliveries in flight, whose outcomes were not
// reported, and the disk of the spool.
type spoolWorld struct {
	*report.Spooler
	t      *testing.T
	disk   *faultfs.FS
	server *redismodel.Server
	store  *redis.Store
	log    *testlog.Buffer
}

// newSpoolWorld must be called in a bubble of synctest; the returned function ends it.
func newSpoolWorld(t *testing.T) (*spoolWorld, func()) {
	t.Helper()
	w := &spoolWorld{t: t, disk: faultfs.New(spoolDir), server: redismodel.NewServer(redismodel.New(time.Now)), log: &testlog.Buffer{}}
	var conns sync.WaitGroup
	client, err := redis.NewClient(redis.ClientOptions{
		Host: "redis",
		Dial: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			conns.Go(func() { w.server.ServeConn(far) })
			return near, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if w.store, err = redis.New(client, redis.Options{Prefix: "p"}); err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(w.log, nil))
	settings := config.Default().Redis
	w.Spooler = &report.Spooler{
		Folder: spool.Folder{Path: spoolDir, FileSystem: w.disk}, Server: "redis://s", Prefix: "p", Log: log,
		NewRedis: func(run string) *report.Redis {
			return report.NewRedis(report.RedisOptions{
				Store: w.store, Run: run, MaxAttempts: 3, RetryAfter: func(int) time.Duration { return time.Second },
				Link: link.New(nil, link.NewMonitor(settings, log), redis.RetryPause(settings), nil),
			})
		},
	}
	w.server.Do("SADD", "p:sidecar:runs", "w-1")
	w.server.Do("SET", "p:barrier:g:expected", "100")
	w.server.Do("SET", "p:barrier:g", "0")
	for _, o := range undelivered() {
		w.server.Do("HSET", "p:sidecar:inflight:w-1", o.Task.Delivery, string(o.Task.Record))
	}
	return w, func() {
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
		synctest.Wait() // for dials of the client that are late
		w.server.CloseConns()
		conns.Wait()
	}
}

// undelivered are the outcomes that a stop could not report.
func undelivered() (list []task.Outcome) {
	for i := range 4 {
		id := fmt.Sprint("t", i)
		list = append(list, task.Outcome{
			Task: task.Task{
				Delivery: fmt.Sprint("w-1.", i+1), Seq: int64(i + 1), Attempt: 1, Record: []byte(`{"task_id":"` + id + `","group_id":"g"}`),
				Info: task.Info{TaskID: id, GroupID: "g", CreatedAt: "1"},
			},
			Conclusion: task.Succeeded, EndedAt: time.Now(),
		})
	}
	return list
}

// write ends a sidecar: it has 1 s.
func (w *spoolWorld) write() {
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Second)
	defer cancel()
	w.Write(ctx, "w-1", undelivered())
}

// start is a start on a healthy disk, after the end of the process.
func (w *spoolWorld) start() {
	w.disk.Restart()
	w.disk.Inject = nil
	w.Replay(w.t.Context(), w.store)
}

// counted returns the tasks that are counted in the group, and checks that each was counted
// once.
func (w *spoolWorld) counted() (ids []string) {
	w.t.Helper()
	for _, o := range undelivered() {
		if id := o.Task.Info.TaskID; w.server.Do("HEXISTS", "p:completions:g", id).Int == 1 {
			ids = append(ids, id)
		}
	}
	if got := w.server.Do("GET", "p:barrier:g").Text; got != fmt.Sprint(len(ids)) {
		w.t.Errorf("%v are complete, and the group counts %s", ids, got)
	}
	return ids
}

// atNth makes the n-th operation from now fail, and records the operations.
func (w *spoolWorld) atNth(n int, fault *faultfs.Fault, ops *[]faultfs.Op) {
	first := w.disk.Count()
	w.disk.Inject = func(at int, op faultfs.Op) *faultfs.Fault {
		if ops != nil {
			*ops = append(*ops, op)
		}
		if at-first == n {
			return fault
		}
		return nil
	}
}

// each calls f in a bubble for each operation of the stop, or of the start after it, and each of
// its faults.
func each(t *testing.T, ofStart bool, faults func(op faultfs.Op) []faultfs.Fault, f func(t *testing.T, w *spoolWorld, n int, op faultfs.Op, fault faultfs.Fault)) {
	t.Helper()
	var ops []faultfs.Op
	in := func(n int, op faultfs.Op, run func(t *testing.T, w *spoolWorld)) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			w, end := newSpoolWorld(t)
			defer end()
			if ofStart {
				w.write()
				w.disk.Restart()
			}
			run(t, w)
			if t.Failed() {
				t.Fatalf("this was operation %d, %s; the log is\n%s", n, op, w.log)
			}
		})
	}
	in(-1, "", func(t *testing.T, w *spoolWorld) {
		w.atNth(-1, nil, &ops)
		if ofStart {
			w.Replay(t.Context(), w.store)
			if got := w.counted(); len(got) != 4 {
				t.Fatalf("counted without a fault: %v", got)
			}
		} else {
			w.write()
		}
	})
	for n, op := range ops {
		for _, fault := range faults(op) {
			in(n, op, func(t *testing.T, w *spoolWorld) { f(t, w, n, op, fault) })
		}
	}
	if len(ops) < 6 {
		t.Errorf("only %d operations: %v", len(ops), ops)
	}
}

// TestEachOperationOfAStopFails: each outcome is reported by the next start, or the log names
// it.
func TestEachOperationOfAStopFails(t *testing.T) {
	each(t, false, faultfs.Faults, func(t *testing.T, w *spoolWorld, n int, _ faultfs.Op, fault faultfs.Fault) {
		w.atNth(n, &fault, nil)
		w.write()
		named := w.named()
		w.start()
		if got := w.counted(); len(got) != 4 && (len(got) != 0 || named != 4) {
			t.Errorf("%v: counted are %v, and %d are named", fault, got, named)
		}
		w.start() // nothing is reported again
		w.counted()
	})
}

// named returns the number of outcomes that the log names as not kept.
func (w *spoolWorld) named() (n int) {
	for _, o := range undelivered() {
		if strings.Contains(w.log.String(), `"not reported before the end: it will be delivered again" task_id=`+o.Task.Info.TaskID) {
			n++
		}
	}
	return n
}

// TestEachOperationOfAStartFails: the next start reports each outcome that this one has not,
// and none is counted twice.
func TestEachOperationOfAStartFails(t *testing.T) {
	each(t, true, faultfs.Faults, func(t *testing.T, w *spoolWorld, n int, _ faultfs.Op, fault faultfs.Fault) {
		w.atNth(n, &fault, nil)
		w.Replay(t.Context(), w.store)
		w.counted()
		if fault.Err != nil && !strings.Contains(w.log.String(), fault.Err.Error()) {
			t.Errorf("%v: the log does not tell", fault)
		}
		w.start()
		if got := w.counted(); len(got) != 4 {
			t.Errorf("%v: counted are %v", fault, got)
		}
		w.start()
		if left := w.disk.Paths(); len(left) > 0 {
			t.Errorf("%v: left are %v", fault, left)
		}
	})
}

func hangs(faultfs.Op) []faultfs.Fault { return []faultfs.Fault{{Hang: true}} }

// TestAHungDiskHoldsUpNoStop lets each operation of the stop hang. The stop ends in its time and
// names the outcomes, and what hung makes no file afterwards, unless it is the last step.
func TestAHungDiskHoldsUpNoStop(t *testing.T) {
	each(t, false, hangs, func(t *testing.T, w *spoolWorld, n int, op faultfs.Op, fault faultfs.Fault) {
		w.atNth(n, &fault, nil)
		began := time.Now()
		w.write()
		if took := time.Since(began); took != time.Second {
			t.Errorf("the stop took %v, and had 1s", took)
		}
		if n := w.named(); n != 4 || !strings.Contains(w.log.String(), "the disk does not answer") {
			t.Errorf("%d outcomes are named", n)
		}
		close(w.disk.Resume)
		synctest.Wait()
		isMade := op == faultfs.Rename || op == faultfs.SyncDir
		if got := slices.Contains(w.disk.Paths(), spoolFile); got != isMade {
			t.Errorf("the file is made: %v, want %v", got, isMade)
		}
		w.start()
		if got := w.counted(); isMade != (len(got) == 4) {
			t.Errorf("counted are %v", got)
		}
		if left := w.disk.Paths(); len(left) > 0 {
			t.Errorf("left are %v", left)
		}
	})
}

// TestAHungDiskHoldsUpNoStopOfAStart lets each operation of a start hang when a stop begins.
func TestAHungDiskHoldsUpNoStopOfAStart(t *testing.T) {
	each(t, true, hangs, func(t *testing.T, w *spoolWorld, n int, _ faultfs.Op, fault faultfs.Fault) {
		w.atNth(n, &fault, nil)
		ctx, stop := context.WithTimeout(t.Context(), 5*time.Second)
		defer stop()
		began := time.Now()
		w.Replay(ctx, w.store)
		if took := time.Since(began); took > 5*time.Second+500*time.Millisecond {
			t.Errorf("it took %v to let go", took)
		}
		close(w.disk.Resume)
		synctest.Wait()
		w.start()
		if got := w.counted(); len(got) != 4 {
			t.Errorf("counted are %v", got)
		}
	})
}

// TestAHungDiskKeepsNoRecord: the lease of a run is kept while its file is read. When the disk
// does not answer, the lease runs out and the records run again.
func TestAHungDiskKeepsNoRecord(t *testing.T) {
	each(t, true, hangs, func(t *testing.T, w *spoolWorld, n int, _ faultfs.Op, fault faultfs.Fault) {
		w.atNth(n, &fault, nil)
		began := time.Now()
		w.Replay(t.Context(), w.store)
		if took := time.Since(began); took > time.Minute {
			t.Errorf("it took %v to give up", took)
		}
		if !strings.Contains(w.log.String(), "the disk does not answer") {
			t.Error("the log does not tell")
		}
		time.Sleep(7 * time.Second)
		if w.server.Do("EXISTS", "p:sidecar:alive:w-1").Int != 0 {
			t.Error("the lease is kept")
		}
		close(w.disk.Resume)
	})
}

// TestAFullDiskAtTheStart: a start neither fails nor waits.
func TestAFullDiskAtTheStart(t *testing.T) {
	for name, fault := range map[string]faultfs.Fault{"full": {Err: unix.ENOSPC}, "failing": {Err: unix.EIO}, "hung": {Hang: true}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, end := newSpoolWorld(t)
				defer end()
				w.disk.Inject = func(int, faultfs.Op) *faultfs.Fault { return &fault }
				began := time.Now()
				if err := w.Prepare(t.Context()); err != nil {
					t.Errorf("the start fails with %v", err)
				}
				w.atNth(0, &fault, nil)
				ctx, stop := context.WithCancel(t.Context())
				time.AfterFunc(5*time.Second, stop)
				w.Replay(ctx, w.store)
				if took := time.Since(began); took > 8*time.Second {
					t.Errorf("it took %v", took)
				}
				if log := w.log.String(); !strings.Contains(log, "spool cannot be written now") || !strings.Contains(log, "spool cannot be read") {
					t.Errorf("the log is %s", log)
				}
				close(w.disk.Resume)
			})
		})
	}
}

// TestAFileOfAnotherRunChangesNothing: outcomes under the header of another run, server or
// prefix are not applied, and the run that they belong to goes on.
func TestAFileOfAnotherRunChangesNothing(t *testing.T) {
	for name, h := range map[string]spool.Header{
		"run":    {Run: "w-2", Server: "redis://s", Prefix: "p"},
		"server": {Run: "w-1", Server: "redis://other", Prefix: "p"},
		"prefix": {Run: "w-1", Server: "redis://s", Prefix: "q"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, end := newSpoolWorld(t)
				defer end()
				if _, err := w.Folder.Write(t.Context(), h, undelivered()); err != nil {
					t.Fatal(err)
				}
				w.start()
				if got := w.counted(); len(got) > 0 {
					t.Errorf("counted are %v", got)
				}
				if n := w.server.Do("HLEN", "p:sidecar:inflight:w-1").Int; n != 4 || w.server.Do("SISMEMBER", "p:sidecar:runs", "w-1").Int != 1 {
					t.Errorf("%d are in flight, members are %v", n, w.server.Do("SMEMBERS", "p:sidecar:runs"))
				}
			})
		})
	}
}

// TestALostTailIsTold: the file ends where a line ends. What is there is reported, the number of
// the others is told, and the file is kept under another name.
func TestALostTailIsTold(t *testing.T) {
	for lines := 1; lines <= 4; lines++ {
		synctest.Test(t, func(t *testing.T) {
			w, end := newSpoolWorld(t)
			defer end()
			w.write()
			text := strings.SplitAfter(string(w.disk.Get(spoolFile)), "\n")
			w.disk.Put(spoolFile, []byte(strings.Join(text[:lines], "")))
			w.start()
			if got := w.counted(); len(got) != lines-1 {
				t.Errorf("counted are %v of %d", got, lines-1)
			}
			if want := fmt.Sprintf(`"spool file has lost outcomes and is kept" file=%s.unreadable missing=%d`, spoolFile, 5-lines); !strings.Contains(w.log.String(), want) {
				t.Errorf("the log has no %s:\n%s", want, w.log)
			}
			if left := w.disk.Paths(); !slices.Equal(left, []string{spoolFile + ".unreadable"}) {
				t.Errorf("left are %v", left)
			}
		})
	}
}

// TestAHungDiskWithManyFiles: the disk hangs while the first of three files is read. The others
// are not tried, and the leases of all runs are let go.
func TestAHungDiskWithManyFiles(t *testing.T) {
	for name, wait := range map[string]time.Duration{"until it is given up": time.Hour, "when a stop begins": 5 * time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, end := newSpoolWorld(t)
				defer end()
				for _, run := range []string{"w-1", "w-2", "w-3"} {
					w.server.Do("SADD", "p:sidecar:runs", run)
					w.Write(t.Context(), run, undelivered())
				}
				reads := 0
				w.disk.Inject = func(_ int, op faultfs.Op) *faultfs.Fault {
					if op == faultfs.Read {
						reads++
					}
					if reads > 3 { // the first lines are read when the files are opened
						return &faultfs.Fault{Hang: true}
					}
					return nil
				}
				ctx, stop := context.WithTimeout(t.Context(), wait)
				defer stop()
				began := time.Now()
				w.Replay(ctx, w.store)
				if took, most := time.Since(began), min(wait, 30*time.Second)+500*time.Millisecond; took > most {
					t.Errorf("it took %v, want %v at most", took, most)
				}
				if n := strings.Count(w.log.String(), "the disk does not answer"); n != 1 {
					t.Errorf("it was said %d times:\n%s", n, w.log)
				}
				time.Sleep(7 * time.Second)
				if left := w.server.Do("KEYS", "p:sidecar:alive:*").Array; len(left) > 0 {
					t.Errorf("leases are kept: %v", left)
				}
				close(w.disk.Resume)
			})
		})
	}
}

// TestAPanicAtTheDiskReachesTheStage: it is made on a goroutine of its own, where it would end
// the process before the others have handed back what they hold.
func TestAPanicAtTheDiskReachesTheStage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, end := newSpoolWorld(t)
		defer end()
		w.disk.After = func(int, faultfs.Op) { panic("the disk is broken") }
		err := recoverpanic.Do(func() error { w.Replay(t.Context(), w.store); return nil })
		p, is := errors.AsType[*recoverpanic.Panic](err)
		if !is || p.Value != "the disk is broken" || !strings.Contains(string(p.Stack), "faultfs") {
			t.Errorf("the stage ended with %v", err)
		}
	})
}
