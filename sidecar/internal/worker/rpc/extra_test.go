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

// nesting sets a handler for tasks named N or N.x: each starts two tasks one level down,
// and waits for both.
func (b *fakePool) nesting(isolation task.Isolation) {
	b.does(func(ctx context.Context, _ *fakeProc, t *protocol.Task) (any, error) {
		var r struct {
			ID string `json:"task_id"`
		}
		if err := t.Decode(&r); err != nil {
			return nil, err
		}
		b.work(ctx, 100*time.Millisecond)
		level, _, _ := strings.Cut(r.ID, ".")
		if level != "0" {
			next := string(level[0] - 1)
			first, second := b.push(next+"."+r.ID+"a", isolation), b.push(next+"."+r.ID+"b", task.IsolateNone)
			resumed := t.Waiting()
			for _, done := range []<-chan struct{}{first, second} {
				select {
				case <-done:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			resumed()
		}
		b.work(ctx, 100*time.Millisecond)
		return nil, nil
	})
}

func TestNestedTasksRunWhereThereAreFewSlots(t *testing.T) {
	for _, c := range []struct {
		concurrency, slots int
		isolation, nested  task.Isolation
	}{
		{1, 1, task.IsolateNone, task.IsolateNone},
		{1, 2, task.IsolateNone, task.IsolateNone},
		{4, 1, task.IsolateNone, task.IsolateNone},
		{4, 6, task.IsolateNone, task.IsolateNone},
		{1, 1, task.IsolateRun, task.IsolateNone},
		{1, 1, task.IsolateNone, task.IsolateRun},
		{1, 1, task.IsolateRun, task.IsolateRun},
		{4, 4, task.IsolateRun, task.IsolateRun},
		{4, 4, task.IsolateProcess, task.IsolateProcess},
	} {
		t.Run(fmt.Sprintf("%+v", c), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := startFake(t, &fakes{concurrency: c.concurrency, startTime: time.Second}, func(cfg *rpc.Config) {
					cfg.Slots, cfg.MaxExtra = c.slots, 16
				})
				b.nesting(c.nested)
				b.wait("a task with three levels below it", b.push("3", c.isolation))
				if n := b.count(task.Succeeded); n != 1+2+4+8 {
					t.Errorf("%d tasks succeeded", n)
				}
				// A task that resumes works at once, beside the one in the extra slot.
				if b.most() > c.slots+3 {
					t.Errorf("%d at work at once on %d slots", b.most(), c.slots)
				}
				if err := b.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestExtraSlotsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakes{}
		b := startFake(t, f, func(cfg *rpc.Config) { cfg.Slots, cfg.MaxExtra = 1, 3 })
		open := make(chan struct{})
		b.does(func(_ context.Context, _ *fakeProc, t *protocol.Task) (any, error) {
			defer t.Waiting()()
			<-open
			return nil, nil
		})
		for i := range 10 {
			b.push(fmt.Sprint("w", i), task.IsolateNone)
		}
		time.Sleep(time.Second)
		c, waiting := b.queue.Counts(), 0
		for _, s := range b.pool.Slots() {
			for _, x := range s.Tasks {
				if x.Waiting {
					waiting++
				}
			}
		}
		if c.Running != 4 || c.Extra != 3 || waiting != 4 || f.living() != 4 {
			t.Errorf("%+v, %d wait, %d processes; want one task on the slot and one on each of 3 extra ones", c, waiting, f.living())
		}
		close(open)
		time.Sleep(time.Second)
		if n := b.count(task.Succeeded); n != 10 {
			t.Errorf("%d succeeded", n)
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestNoChildStartsWithoutExtraSlots: the waiting task goes on undisturbed.
func TestNoChildStartsWithoutExtraSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakes{}
		b := startFake(t, f, func(cfg *rpc.Config) { cfg.Slots = 2 })
		b.does(func(_ context.Context, _ *fakeProc, t *protocol.Task) (any, error) {
			defer t.Waiting()()
			time.Sleep(time.Second)
			return nil, nil
		})
		b.push("a", task.IsolateNone)
		b.push("b", task.IsolateNone)
		b.wait("c", b.push("c", task.IsolateNone))
		time.Sleep(2 * time.Second)
		if n := b.count(task.Succeeded); n != 3 || len(f.all()) != 2 {
			t.Errorf("%d succeeded in %d processes", n, len(f.all()))
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestAnExtraChildIsKeptForAWhile: the child serves the next group, and ends within a
// minute of the last one.
func TestAnExtraChildIsKeptForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakes{startTime: time.Second}
		b := startFake(t, f, func(cfg *rpc.Config) { cfg.Slots, cfg.MaxExtra = 1, 16 })
		b.nesting(task.IsolateNone)
		for range 5 {
			b.wait("a nested task", b.push("1", task.IsolateNone))
			time.Sleep(20 * time.Second)
		}
		if n := len(f.all()); n != 2 {
			t.Errorf("%d processes were started for five groups, one after another", n)
		}
		extra := 0
		for _, s := range b.pool.Slots() {
			if s.Extra {
				extra++
			}
		}
		if extra != 1 {
			t.Errorf("%d extra children", extra)
		}
		time.Sleep(time.Minute)
		if n := f.living(); n != 1 || b.count(task.Lost) != 0 {
			t.Errorf("%d processes a minute later, %d tasks lost", n, b.count(task.Lost))
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestTheDeathOfAWaitingTaskEndsItsExtraSlot: no extra slot remains after the death of
// the waiting task.
func TestTheDeathOfAWaitingTaskEndsItsExtraSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakes{}
		b := startFake(t, f, func(cfg *rpc.Config) { cfg.Slots, cfg.MaxExtra = 1, 16 })
		b.does(func(_ context.Context, p *fakeProc, t *protocol.Task) (any, error) {
			t.Waiting()
			time.Sleep(time.Second)
			p.end("exited with status 1")
			return nil, nil
		})
		b.push("dies", task.IsolateNone)
		time.Sleep(500 * time.Millisecond)
		if n := b.queue.Counts().Extra; n != 1 {
			t.Errorf("%d extra slots", n)
		}
		time.Sleep(5 * time.Second)
		if c := b.queue.Counts(); c.Extra != 0 || c.Running != 0 || b.count(task.Lost) != 1 {
			t.Errorf("%+v, %d lost", c, b.count(task.Lost))
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestAStopWithExtraSlots: a drain adds no extra slots, the waiting task is ended when
// its time is over, and no process is left.
func TestAStopWithExtraSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := startFake(t, &fakes{startTime: time.Second}, func(cfg *rpc.Config) { cfg.Slots, cfg.MaxExtra = 1, 16 })
		b.nesting(task.IsolateNone)
		b.push("3", task.IsolateNone)
		time.Sleep(3 * time.Second)
		if c := b.queue.Counts(); c.Extra < 2 {
			t.Fatalf("%+v", c)
		}
		b.queue.Halt()
		b.soft()
		time.Sleep(5 * time.Second)
		if err := b.stop(); err != nil {
			t.Error(err)
		}
		if b.count(task.Lost) != 0 || b.count(task.Failed) != 0 || b.count(task.Returned) < 2 {
			t.Errorf("%v", b.outcomes)
		}
	})
}
