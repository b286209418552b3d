package rpc_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
)

// takes sets a handler whose tasks take a time.
func (b *fakePool) takes(d time.Duration) {
	b.does(func(ctx context.Context, _ *fakeProc, _ *protocol.Task) (any, error) {
		b.work(ctx, d)
		return nil, nil
	})
}

func TestNoWorkerGetsMoreTasksThanItMay(t *testing.T) {
	for _, c := range []struct{ concurrency, slots, quota, tasks int }{
		{1, 1, 1, 20},
		{1, 4, 10, 400},
		{4, 8, 10, 400},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakes{concurrency: c.concurrency, startTime: time.Second}
				b := startFake(t, f, func(cfg *rpc.Config) {
					cfg.Slots, cfg.MaxTasksPerChild = c.slots, c.quota
				})
				b.takes(50 * time.Millisecond)
				for i := range c.tasks {
					b.push(fmt.Sprint("t", i), task.IsolateNone)
				}
				for range 300 {
					time.Sleep(time.Second)
					if b.count(task.Succeeded) == c.tasks {
						break
					}
				}
				// Every outcome is a success: no task was lost, and returned tasks had not
				// started.
				if n, lost := b.count(task.Succeeded), b.count(task.Lost); n != c.tasks || lost != 0 {
					t.Fatalf("%d of %d tasks succeeded, %d lost\n%s", n, c.tasks, lost, b.log)
				}
				if b.most() > c.slots {
					t.Errorf("%d at once on %d slots", b.most(), c.slots)
				}
				quotas := map[int64]bool{}
				for _, p := range f.all() {
					if n := p.tasks.Load(); int(n) > c.quota {
						t.Errorf("a worker had %d tasks of %d", n, c.quota)
					} else if !p.alive() {
						quotas[n] = true
					}
				}
				if c.quota > 1 && len(quotas) < 2 {
					t.Errorf("all were replaced after as many tasks: %v", quotas)
				}
				if n := strings.Count(b.log.String(), "SIDECAR_MAX_TASKS_PER_CHILD"); n < c.tasks/c.quota-c.slots {
					t.Errorf("%d replacements with a reason in the log", n)
				}
				if err := b.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestWorkersAreReplacedAtTheirAgeButNotAllAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const age, slots = 10 * time.Minute, 8
		f := &fakes{startTime: 2 * time.Second}
		b := startFake(t, f, func(cfg *rpc.Config) { cfg.Slots, cfg.MaxChildAge = slots, age })
		b.takes(time.Second)
		for i := range 5000 {
			b.push(fmt.Sprint("t", i), task.IsolateNone)
		}
		time.Sleep(time.Hour)
		if b.count(task.Lost) != 0 || b.count(task.Succeeded) != 5000 {
			t.Errorf("%v", b.outcomes)
		}
		born := map[time.Duration]int{}
		for _, p := range f.all() {
			if !p.alive() {
				if lived := f.lived(p); lived < age*8/10 || lived > age+30*time.Second {
					t.Errorf("a worker lived for %v", lived)
				}
				born[p.born.Sub(f.all()[0].born)]++
			}
		}
		for when, n := range born {
			if when > 10*time.Second && n > slots/4 {
				t.Errorf("%d were started at %v", n, when)
			}
		}
		if len(f.all()) < 6*slots/2 || f.atOnce() > slots+slots/4 {
			t.Errorf("%d processes, %d at once", len(f.all()), f.atOnce())
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestAWorkerThatIsTooLargeIsReplacedBetweenTasks: the replacement is up before the old
// worker has ended its tasks.
func TestAWorkerThatIsTooLargeIsReplacedBetweenTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakes{startTime: time.Second}
		large := make(map[int]bool)
		b := startFake(t, f, func(cfg *rpc.Config) {
			cfg.Slots, cfg.MaxChildRSS = 2, 512<<20
			cfg.Resident = func(pid int) (int64, error) {
				f.mu.Lock()
				defer f.mu.Unlock()
				if large[pid] {
					return 700 << 20, nil
				}
				return 512 << 20, nil // exactly the limit
			}
		})
		b.takes(10 * time.Second)
		time.Sleep(2 * time.Second)
		first := b.push("long", task.IsolateNone)
		time.Sleep(time.Second)
		busy := 0
		for _, s := range b.pool.Slots() {
			if len(s.Tasks) > 0 {
				busy = s.Pid
			}
		}
		f.set(func() { large[busy] = true })
		time.Sleep(5 * time.Second)
		if n := f.living(); n != 3 || b.pool.Up() != 2 {
			t.Errorf("%d processes, %d of them take tasks; the large one's successor is wanted beside it", n, b.pool.Up())
		}
		b.wait("the task of the large one", first)
		time.Sleep(time.Second)
		if n := f.living(); n != 2 || b.count(task.Succeeded) != 1 || len(b.outcomes) != 1 {
			t.Errorf("%d processes, outcomes %v", n, b.outcomes)
		}
		if !strings.Contains(b.log.String(), `msg="replacing a worker"`) || !strings.Contains(b.log.String(), "it takes 700 MiB") {
			t.Errorf("the log does not say why\n%s", b.log)
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestNoSlotIsPassedOver: if every fresh worker is too large already, each slot has its
// turn.
func TestNoSlotIsPassedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakes{startTime: time.Second}
		b := startFake(t, f, func(cfg *rpc.Config) {
			cfg.Slots, cfg.MaxChildRSS = 4, 1<<20
			cfg.Resident = func(int) (int64, error) { return 2 << 20, nil }
		})
		time.Sleep(30 * time.Second)
		for _, p := range f.all()[:4] {
			if p.alive() {
				t.Errorf("process %d of the first four is there after %d starts", p.pid, len(f.all()))
			}
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestAnOldWorkerStaysWhileNoNewOneStarts: the replacement is tried again later. A
// worker that has used its quota of tasks ends, and its slot waits.
func TestAnOldWorkerStaysWhileNoNewOneStarts(t *testing.T) {
	for _, byAge := range []bool{true, false} {
		t.Run(fmt.Sprint("age ", byAge), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &fakes{}
				b := startFake(t, f, func(cfg *rpc.Config) {
					cfg.MaxTasksPerChild = 1
					if byAge {
						cfg.MaxTasksPerChild, cfg.MaxChildAge = 0, time.Minute
					}
				})
				f.set(func() { f.broken = true })
				if !byAge {
					b.wait("the only task", b.push("one", task.IsolateNone))
				}
				time.Sleep(5 * time.Minute)
				up, want := b.pool.Up(), 0
				if byAge {
					want = 1
				}
				if up != want {
					t.Errorf("%d workers, want %d\n%s", up, want, b.log)
				}
				if n := strings.Count(b.log.String(), "replacement of a worker does not start"); n == 0 || n > 20 {
					t.Errorf("said %d times in five minutes\n%s", n, b.log)
				}
				f.set(func() { f.broken = false })
				time.Sleep(time.Minute)
				b.wait("a task of the new one", b.push("two", task.IsolateNone))
				if n := len(f.all()); n < 2 {
					t.Errorf("%d processes", n)
				}
				if err := b.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestALongTaskDoesNotKeepTheOtherSlotsOfItsWorkerEmpty: the replacement serves while
// the predecessor finishes.
func TestALongTaskDoesNotKeepTheOtherSlotsOfItsWorkerEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakes{concurrency: 4}
		b := startFake(t, f, func(cfg *rpc.Config) { cfg.Slots = 4 })
		b.takes(time.Hour)
		long := b.push("long", task.IsolateNone)
		time.Sleep(time.Second)
		b.pool.Restart()
		time.Sleep(time.Second)
		b.takes(time.Second)
		for i := range 30 {
			b.push(fmt.Sprint("t", i), task.IsolateNone)
		}
		time.Sleep(11 * time.Second) // ten tasks on three slots
		if n := b.count(task.Succeeded); n != 30 || b.most() != 4 {
			t.Errorf("%d of 30 succeeded, %d ran at once", n, b.most())
		}
		time.Sleep(time.Hour)
		select {
		case <-long:
		default:
			t.Error("the long task did not end")
		}
		if n := f.living(); n != 1 || b.count(task.Succeeded) != 31 {
			t.Errorf("%d processes, %v", n, b.outcomes)
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestConcurrentRequestsStartOneReplacement: a restart and a recycling at the same time
// start one replacement.
func TestConcurrentRequestsStartOneReplacement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakes{startTime: 5 * time.Second}
		b := startFake(t, f, func(cfg *rpc.Config) { cfg.Slots, cfg.MaxChildAge = 1, time.Minute })
		time.Sleep(5*time.Second + 47*time.Second) // just before its maximum age
		b.pool.Restart()
		time.Sleep(2 * time.Second)
		b.pool.Restart()
		time.Sleep(30 * time.Second)
		if n := f.atOnce(); n > 2 {
			t.Errorf("%d processes at once for one slot", n)
		}
		if n := f.living(); n != 1 || b.pool.Up() != 1 {
			t.Errorf("%d processes", n)
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}
