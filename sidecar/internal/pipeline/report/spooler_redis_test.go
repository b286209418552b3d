package report_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/report/spool"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultfs"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/luascripts"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redismodel"
)

// inSpool calls f in a bubble with a spool, and shows its log if that fails.
func inSpool(t *testing.T, f func(t *testing.T, w *spoolWorld)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w, end := newSpoolWorld(t)
		defer end()
		f(t, w)
		if t.Failed() {
			t.Logf("the log is\n%s", w.log)
		}
	})
}

// refuse makes a script fail for as long as reply returns an error, and counts its calls.
func (w *spoolWorld) refuse(script string, reply func() string) (calls *int) {
	w.t.Helper()
	files, err := luascripts.Files()
	if err != nil {
		w.t.Fatal(err)
	}
	sources, err := luascripts.Sources(files)
	if err != nil {
		w.t.Fatal(err)
	}
	sha := redismodel.SHA1(sources[script])
	calls = new(int)
	w.server.With(func(db *redismodel.DB) {
		db.Refuse = func(args []string) string {
			if args[0] != "evalsha" || args[1] != sha {
				return ""
			}
			*calls++
			return reply()
		}
	})
	return calls
}

func always(reply string) func() string { return func() string { return reply } }

// TestTheCheckOfTheFolder: a wrong setting ends the start, and a good one is not worth a word.
func TestTheCheckOfTheFolder(t *testing.T) {
	inSpool(t, func(t *testing.T, w *spoolWorld) {
		if err := w.Prepare(t.Context()); err != nil || w.log.String() != "" {
			t.Errorf("%v, %s", err, w.log)
		}
		w.disk.Inject = func(int, faultfs.Op) *faultfs.Fault { return &faultfs.Fault{Err: unix.EACCES} }
		err := w.Prepare(t.Context())
		if _, is := errors.AsType[*config.Error](err); !is {
			t.Errorf("no permission: %v", err)
		}
	})
}

// TestWhatIsNotSpooled: no file is made without outcomes, a folder or a run. The log names what
// is delivered again.
func TestWhatIsNotSpooled(t *testing.T) {
	for name, c := range map[string]struct {
		run, folder string
		outcomes    int
	}{"no outcome": {"w-1", spoolDir, 0}, "no run": {"", spoolDir, 4}, "no folder": {"w-1", "", 4}} {
		inSpool(t, func(t *testing.T, w *spoolWorld) {
			w.Folder.Path = c.folder
			w.Write(t.Context(), c.run, undelivered()[:c.outcomes])
			if left := w.disk.Paths(); len(left) > 0 || w.named() != c.outcomes || strings.Contains(w.log.String(), "could not be spooled") {
				t.Errorf("%s: left %v, %d are named", name, left, w.named())
			}
		})
	}
}

// TestTheFilesOfManyRuns: all are reported, and the runs end.
func TestTheFilesOfManyRuns(t *testing.T) {
	inSpool(t, func(t *testing.T, w *spoolWorld) {
		w.server.Do("SADD", "p:sidecar:runs", "w-2", "w-3")
		w.Write(t.Context(), "w-3", nil)
		for i, run := range []string{"w-1", "w-2"} {
			outcomes := undelivered()[2*i : 2*i+2]
			for j := range outcomes {
				w.server.Do("HDEL", "p:sidecar:inflight:w-1", outcomes[j].Task.Delivery)
				outcomes[j].Task.Delivery = fmt.Sprint(run, ".", j+1)
				w.server.Do("HSET", "p:sidecar:inflight:"+run, outcomes[j].Task.Delivery, string(outcomes[j].Task.Record))
			}
			w.Write(t.Context(), run, outcomes)
		}
		w.start()
		if got := w.counted(); len(got) != 4 {
			t.Errorf("counted are %v", got)
		}
		if members, left := w.server.Do("SMEMBERS", "p:sidecar:runs").Texts(), w.disk.Paths(); !slices.Equal(members, []string{"w-3"}) || len(left) > 0 {
			t.Errorf("members are %v, left %v", members, left)
		}
		if log := w.log.String(); strings.Contains(log, "level=ERROR") || !strings.Contains(log, "run=w-1 outcomes=2 superseded=0") || !strings.Contains(log, "run=w-2 outcomes=2 superseded=0") {
			t.Error("the log does not tell")
		}
	})
}

// TestASupersededOutcome: its record was taken over. It is counted and named.
func TestASupersededOutcome(t *testing.T) {
	inSpool(t, func(t *testing.T, w *spoolWorld) {
		w.write()
		w.server.Do("HDEL", "p:sidecar:inflight:w-1", "w-1.2")
		w.start()
		if log := w.log.String(); len(w.counted()) != 3 || !strings.Contains(log, "outcomes=3 superseded=1") || strings.Count(log, `"spooled outcome is superseded" task_id=t1`) != 1 {
			t.Errorf("counted are %v", w.counted())
		}
	})
}

// TestTheLeaseOfASpooledRun is kept while Redis refuses its outcomes, and let go afterwards. A
// run that is no member gets none.
func TestTheLeaseOfASpooledRun(t *testing.T) {
	inSpool(t, func(t *testing.T, w *spoolWorld) {
		w.write()
		var accepts atomic.Bool
		w.refuse("report", func() string {
			if accepts.Load() {
				return ""
			}
			return "OOM full"
		})
		for i := range 6 {
			time.AfterFunc(time.Duration(10*i+9)*time.Second, func() {
				if w.server.Do("EXISTS", "p:sidecar:alive:w-1").Int != 1 {
					t.Errorf("no lease after %d s", 10*i+9)
				}
			})
		}
		time.AfterFunc(time.Minute, func() { accepts.Store(true) })
		w.start()
		if got := w.counted(); len(got) != 4 {
			t.Errorf("counted are %v", got)
		}
		time.Sleep(10 * time.Second)
		if w.server.Do("EXISTS", "p:sidecar:alive:w-1").Int != 0 {
			t.Error("the lease is kept")
		}
	})
	inSpool(t, func(t *testing.T, w *spoolWorld) {
		w.write()
		w.server.Do("SREM", "p:sidecar:runs", "w-1")
		calls := w.refuse("renew", always(""))
		w.disk.Restart()
		w.disk.Inject = func(_ int, op faultfs.Op) *faultfs.Fault {
			if op == faultfs.Remove {
				return &faultfs.Fault{Hang: true}
			}
			return nil
		}
		w.Replay(t.Context(), w.store)
		if *calls != 1 {
			t.Errorf("the lease of a run that has ended was renewed %d times", *calls)
		}
		close(w.disk.Resume)
	})
}

// TestAStopBeforeASpoolIsReported: the rest of the file stays for the next start, whichever call
// Redis refuses until then.
func TestAStopBeforeASpoolIsReported(t *testing.T) {
	for _, script := range []string{"report", "retire"} {
		inSpool(t, func(t *testing.T, w *spoolWorld) {
			w.write()
			w.refuse(script, always("OOM full"))
			ctx, stop := context.WithTimeout(t.Context(), time.Minute)
			w.disk.Restart()
			w.Replay(ctx, w.store)
			stop()
			if left := w.disk.Paths(); !slices.Equal(left, []string{spoolFile}) || strings.Contains(w.log.String(), "are reported") || strings.Contains(w.log.String(), "level=ERROR") {
				t.Errorf("%s: left %v", script, left)
			}
			w.server.With(func(db *redismodel.DB) { db.Refuse = nil })
			w.start()
			if got, left := w.counted(), w.disk.Paths(); len(got) != 4 || len(left) > 0 || w.server.Do("SISMEMBER", "p:sidecar:runs", "w-1").Int != 0 {
				t.Errorf("%s: counted %v, left %v", script, got, left)
			}
		})
	}
}

// TestARefusalOfASpool: for a while, the start waits; for good, the file is kept.
func TestARefusalOfASpool(t *testing.T) {
	for _, script := range []string{"report", "retire"} {
		inSpool(t, func(t *testing.T, w *spoolWorld) {
			w.write()
			calls := 0
			w.refuse(script, func() string {
				if calls++; calls <= 3 {
					return "OOM full"
				}
				return ""
			})
			w.start()
			if got, left := w.counted(), w.disk.Paths(); len(got) != 4 || len(left) > 0 || calls < 4 || w.server.Do("SISMEMBER", "p:sidecar:runs", "w-1").Int != 0 {
				t.Errorf("%s: counted %v, left %v after %d calls", script, got, left, calls)
			}
		})
		inSpool(t, func(t *testing.T, w *spoolWorld) {
			w.write()
			calls := w.refuse(script, always("NOPERM no permission"))
			w.start()
			if left := w.disk.Paths(); !slices.Equal(left, []string{spoolFile}) || *calls != 1 || !strings.Contains(w.log.String(), "spool file cannot be reported and is kept") || strings.Contains(w.log.String(), "are reported") {
				t.Errorf("%s: left %v after %d calls", script, left, *calls)
			}
		})
	}
}

// TestADamagedFileIsSetAside: what can be read is reported, and the log names the lines, also of
// a file without checksums. If the disk hangs meanwhile, that is told in their place.
func TestADamagedFileIsSetAside(t *testing.T) {
	var old strings.Builder
	old.WriteString(`{"run":"w-1","server":"redis://s","prefix":"p"}` + "\n")
	for _, o := range undelivered()[:2] {
		line, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		old.WriteString(string(line) + "\n")
	}
	for name, missing := range map[string]int{"with checksums": 1, "without": 0} {
		for _, hangs := range []bool{false, true} {
			inSpool(t, func(t *testing.T, w *spoolWorld) {
				w.write()
				text := strings.SplitAfter(string(w.disk.Get(spoolFile)), "\n")
				text[2] = "damaged\n"
				if missing == 0 {
					text = append(strings.SplitAfter(old.String(), "\n")[:2], "damaged\n", strings.SplitAfter(old.String(), "\n")[2])
				}
				w.disk.Put(spoolFile, []byte(strings.Join(text, "")))
				w.disk.Restart()
				w.disk.Inject = func(_ int, op faultfs.Op) *faultfs.Fault {
					if hangs && op == faultfs.Rename {
						return &faultfs.Fault{Hang: true}
					}
					return nil
				}
				w.Replay(t.Context(), w.store)
				if hangs {
					close(w.disk.Resume)
				}
				want := fmt.Sprintf(`"spool file has unreadable lines and is kept" file=%s.unreadable lines=[3] missing=%d`, spoolFile, missing)
				if hangs {
					want = "spool file cannot be reported and is kept"
				}
				if missing == 1 && len(w.counted()) != 3 || missing == 0 && len(w.counted()) != 2 || !strings.Contains(w.log.String(), want) || hangs && strings.Contains(w.log.String(), "unreadable lines") {
					t.Errorf("%s, hangs: %t: counted %v; want %s", name, hangs, w.counted(), want)
				}
			})
		}
	}
}

// TestFilesThatAreNotReported hold up no other: one of another Redis, and one that cannot be
// read. What another sidecar reports, or has just reported, is not worth a word.
func TestFilesThatAreNotReported(t *testing.T) {
	const other = spoolDir + "/w-0.spool"
	for name, c := range map[string]struct {
		prepare func(t *testing.T, w *spoolWorld)
		want    string // in the log
	}{
		"of another redis": {func(t *testing.T, w *spoolWorld) {
			t.Helper()
			if _, err := w.Folder.Write(t.Context(), spool.Header{Run: "w-0", Server: "redis://other", Prefix: "p"}, undelivered()); err != nil {
				t.Fatal(err)
			}
		}, "spool file of another redis or prefix is skipped"},
		"unreadable": {func(_ *testing.T, w *spoolWorld) { w.disk.Put(other, []byte("none\n")) }, "spool file cannot be used and is skipped"},
		"busy": {func(t *testing.T, w *spoolWorld) {
			t.Helper()
			w.Write(t.Context(), "w-0", undelivered())
			f, err := w.Folder.Open(other)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = f.Close() })
		}, ""},
		"removed": {func(t *testing.T, w *spoolWorld) {
			t.Helper()
			w.Write(t.Context(), "w-0", undelivered())
			w.disk.After = func(_ int, op faultfs.Op) {
				if op == faultfs.List {
					w.disk.After = nil
					_ = w.disk.Remove(other)
				}
			}
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			inSpool(t, func(t *testing.T, w *spoolWorld) {
				w.write()
				c.prepare(t, w)
				w.Replay(t.Context(), w.store)
				if got, log := w.counted(), w.log.String(); len(got) != 4 || !strings.Contains(log, c.want) || strings.Contains(log, "skipped") != (c.want != "") {
					t.Errorf("counted are %v; the log is\n%s", got, log)
				}
			})
		})
	}
}

// TestAHungDiskAtTheFileOfAnother: the close of a file that is skipped hangs. No other is tried.
func TestAHungDiskAtTheFileOfAnother(t *testing.T) {
	inSpool(t, func(t *testing.T, w *spoolWorld) {
		if _, err := w.Folder.Write(t.Context(), spool.Header{Run: "w-0", Server: "redis://other", Prefix: "p"}, undelivered()); err != nil {
			t.Fatal(err)
		}
		w.write()
		w.disk.Inject = func(_ int, op faultfs.Op) *faultfs.Fault {
			if op == faultfs.Close {
				return &faultfs.Fault{Hang: true}
			}
			return nil
		}
		w.Replay(t.Context(), w.store)
		close(w.disk.Resume)
		if got := w.counted(); len(got) > 0 {
			t.Errorf("counted are %v", got)
		}
	})
	inSpool(t, func(t *testing.T, w *spoolWorld) { // as does the first open
		w.write()
		w.Write(t.Context(), "w-2", undelivered())
		var opened atomic.Int64
		w.disk.Inject = func(_ int, op faultfs.Op) *faultfs.Fault {
			if op == faultfs.Open {
				opened.Add(1)
				return &faultfs.Fault{Hang: true}
			}
			return nil
		}
		w.Replay(t.Context(), w.store)
		if n := opened.Load(); n != 1 {
			t.Errorf("%d files were opened", n)
		}
		close(w.disk.Resume)
	})
}
