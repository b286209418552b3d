package rpc_test

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
)

const (
	loopBegins = "crash loop: not ready"
	loopEnds   = "the crash loop is over"
)

func (b *fakePool) said(what string) int { return strings.Count(b.log.String(), what) }

// TestACrashLoopIsSaidOnceAndItsEndToo: a crash loop and its end are each logged once,
// whether a worker lives for a minute or answers a task.
func TestACrashLoopIsSaidOnceAndItsEndToo(t *testing.T) {
	for _, byTask := range []bool{false, true} {
		t.Run(fmt.Sprint("task ", byTask), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakes{lives: 50 * time.Millisecond}
				b := startFake(t, f, func(cfg *rpc.Config) { cfg.Slots = 3 })
				time.Sleep(10 * time.Minute)
				if !b.pool.CrashLoop() || b.said(loopBegins) != 1 || b.said("exited with status 1") == 0 {
					t.Fatalf("loop %t\n%s", b.pool.CrashLoop(), b.log)
				}
				// Full jitter: 15 s on average in the end, and at most 30 s.
				if n := len(f.all()); n < 3*25 || n > 3*90 {
					t.Errorf("%d starts in 10 minutes on 3 slots", n)
				}
				f.set(func() { f.lives = 0 })
				time.Sleep(31 * time.Second) // all workers are up, and none has lived long enough
				if !b.pool.CrashLoop() {
					t.Error("it is over too early")
				}
				if byTask {
					b.wait("a task", b.push("t", task.IsolateNone))
				} else {
					time.Sleep(time.Minute)
				}
				synctest.Wait()
				if b.pool.CrashLoop() || b.said(loopEnds) != 1 {
					t.Errorf("loop %t, end said %d times", b.pool.CrashLoop(), b.said(loopEnds))
				}
				time.Sleep(10 * time.Minute)
				if b.said(loopBegins) != 1 || b.said(loopEnds) != 1 {
					t.Error("said again")
				}
				if err := b.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestACrashLoopEndsTheRunIfThatIsWanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakes{}
		b := startFake(t, f, func(cfg *rpc.Config) {
			cfg.Slots, cfg.CrashLoopExit, cfg.Name = 2, true, "./w"
		})
		b.wait("a task", b.push("t", task.IsolateNone))
		f.set(func() { f.broken = true })
		for _, p := range f.all() {
			p.end("was killed by SIGSEGV")
		}
		err := <-b.ended
		b.ended <- err
		var loop *rpc.CrashLoopError
		if !errors.As(err, &loop) || strings.Contains(err.Error(), "\n") {
			t.Fatalf("ended with %v", err)
		}
		want := `worker "./w" keeps dying: it ended 5 times in a row without answering a task or living for 1m0s; the last time it did not start: broken`
		if err.Error() != want {
			t.Errorf("got  %s\nwant %s", err, want)
		}
		_ = b.stop()
	})
}

// TestAStartThatFailsForAReasonThatPasses: within a minute it ends nothing, even with
// CrashLoopExit; later it counts as any other failure.
func TestAStartThatFailsForAReasonThatPasses(t *testing.T) {
	for _, c := range []struct {
		name string
		ever bool // a worker has been up
		want string
	}{
		{"at the first start", false, "could not be started: the file, or its interpreter, is being written to"},
		{"at a restart", true, "keeps dying"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakes{broken: !c.ever, why: syscall.ETXTBSY}
				b := startFake(t, f, func(cfg *rpc.Config) { cfg.CrashLoopExit, cfg.StartRetries = true, 1 })
				if c.ever {
					b.wait("a task", b.push("t", task.IsolateNone))
					f.set(func() { f.broken = true })
					for _, p := range f.all() {
						p.end("was killed by SIGSEGV")
					}
				}
				time.Sleep(55 * time.Second)
				f.set(func() { f.broken = false })
				b.wait("a task", b.push("after", task.IsolateNone))
				f.set(func() { f.broken = true })
				if !c.ever { // only a worker that never started is given up
					_ = b.stop()
					return
				}
				for _, p := range f.all() {
					p.end("was killed by SIGSEGV")
				}
				err := <-b.ended
				b.ended <- err
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("ended with %v", err)
				}
				_ = b.stop()
			})
		})
	}
}

// TestWhatIsNoCrashLoop: deaths alone do not make a crash loop.
func TestWhatIsNoCrashLoop(t *testing.T) {
	t.Run("a worker that dies often and works", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fakes{lives: 20 * time.Second}
			b := startFake(t, f, func(*rpc.Config) {})
			for i := range 600 {
				b.push(fmt.Sprint("t", i), task.IsolateNone)
			}
			b.takes(time.Second)
			time.Sleep(10 * time.Minute)
			if b.said(loopBegins) != 0 || len(f.all()) < 10 {
				t.Errorf("%d starts\n%s", len(f.all()), b.log)
			}
			if err := b.stop(); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("a worker that lives for more than a minute", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fakes{lives: 61 * time.Second}
			b := startFake(t, f, func(*rpc.Config) {})
			time.Sleep(20 * time.Minute)
			// The restarts also have short pauses.
			if n := len(f.all()); b.said(loopBegins) != 0 || n < 19 {
				t.Errorf("%d starts\n%s", n, b.log)
			}
			if err := b.stop(); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("one slot that works", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := &fakes{}
			b := startFake(t, f, func(cfg *rpc.Config) { cfg.Slots = 2 })
			f.set(func() { f.lives = time.Second })
			f.all()[0].end("was killed")
			time.Sleep(10 * time.Minute)
			if b.said(loopBegins) != 0 || len(f.all()) < 10 {
				t.Errorf("%d starts\n%s", len(f.all()), b.log)
			}
			if err := b.stop(); err != nil {
				t.Error(err)
			}
		})
	})
}
