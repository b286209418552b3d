package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func tasks(from, to int) []task.Task {
	var ts []task.Task
	for i := from; i < to; i++ {
		ts = append(ts, task.Task{Seq: int64(i), Delivery: fmt.Sprint("run.", i)})
	}
	return ts
}

func seqs(ts []task.Task) []int64 {
	var out []int64
	for _, t := range ts {
		out = append(out, t.Seq)
	}
	return out
}

// nowhere is the Exits of tests that expect no task to leave by them.
var nowhere = dispatch.Exits{Requeue: func(task.Task) {}, Defer: func(task.Task) {}}

// returns collects the tasks that a queue requeues and defers.
type returns struct {
	mu    sync.Mutex
	ts    []task.Task
	aside []task.Task
}

func (r *returns) exits() dispatch.Exits {
	return dispatch.Exits{Requeue: r.add, Defer: func(t task.Task) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.aside = append(r.aside, t)
	}}
}

func (r *returns) add(t task.Task) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ts = append(r.ts, t)
}

func TestTasksLeaveInTheOrderOfTheirClaim(t *testing.T) {
	q := dispatch.New(dispatch.Exits{Requeue: func(task.Task) { t.Error("gave a task back") }})
	q.AddCapacity(10)
	q.Offer(tasks(0, 3))
	q.Offer(tasks(3, 6))
	for _, want := range [][]int64{{0, 1}, {2, 3, 4, 5}} {
		got, err := q.Acquire(t.Context(), len(want))
		if err != nil || !slices.Equal(seqs(got), want) {
			t.Errorf("took %v, %v; want %v", seqs(got), err, want)
		}
	}
}

func TestDemandIsWhatCanStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := dispatch.New(nowhere)
		want := func(expect int) {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			n, err := q.Demand(ctx)
			if err != nil {
				n = 0
			}
			if n != expect {
				t.Errorf("want %d records, expected %d", n, expect)
			}
		}
		want(0) // no child is up
		q.AddCapacity(4)
		want(4)
		q.Offer(tasks(0, 3))
		want(1)
		if _, err := q.Acquire(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		want(1) // a started task uses its slot
		q.Release(works)
		want(2)
		q.AddCapacity(-4) // the child died
		want(0)
	})
}

func TestDemandWaitsForASlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := dispatch.New(nowhere)
		got := make(chan int)
		go func() {
			n, _ := q.Demand(t.Context())
			got <- n
		}()
		synctest.Wait()
		q.AddCapacity(2)
		if n := <-got; n != 2 {
			t.Errorf("Demand returned %d", n)
		}
	})
}

func TestAheadClaimsFollowTheRateAndItsSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := dispatch.New(nowhere)
		q.AddCapacity(1)
		for range 200 { // 10,000 a second
			q.Offer(tasks(0, 10))
			if _, err := q.Acquire(t.Context(), 10); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
			q.ReleaseAll(make([]task.SlotState, 10))
		}
		n, err := q.Demand(t.Context())
		if err != nil || n < 50 || n > 70 {
			t.Errorf("at 10,000 tasks a second Demand returned %d, %v; want about 60: what starts within 6 ms", n, err)
		}
		// No demand until half of these tasks have started, and then for all that are
		// missing; but at once if a slot would be without a task.
		q.Offer(tasks(0, n))
		ahead := n - 1
		for started := range n {
			want := started
			if started <= ahead/2 {
				want = 0
			}
			if got := q.Demands()[0]; got != want {
				t.Errorf("with %d of %d started Demand returns %d, want %d", started, n, got, want)
			}
			if _, err := q.Acquire(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			if started < n-1 {
				q.Release(works)
			}
		}
		if got := q.Demands()[0]; got != ahead {
			t.Errorf("with nothing left Demand returns %d, want %d", got, ahead)
		}
		q.Release(works)
		time.Sleep(time.Second)
		if n, err := q.Demand(t.Context()); err != nil || n != 1 {
			t.Errorf("after a silence Demand returned %d, %v; want the one slot", n, err)
		}
	})
}

func TestCloseRequeuesWhatWasNotStartedAndEndsEveryWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := dispatch.New(back.exits())
		q.AddCapacity(1)
		q.Offer(tasks(0, 4))
		if _, err := q.Acquire(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		q.Halt()
		q.Halt()
		q.Offer(tasks(4, 6)) // the reply of an outstanding claim
		if len(back.ts) != 0 {
			t.Errorf("gave back %v before the last claim was in", seqs(back.ts))
		}
		if _, err := q.Acquire(t.Context(), 1); !errors.Is(err, dispatch.ErrClosed) {
			t.Errorf("Take after Halt: %v", err)
		}
		q.Close()
		q.Close()
		want := []int64{5, 4, 3, 2, 1} // so that 1 is at the head of the queue
		if got := seqs(back.ts); !slices.Equal(got, want) {
			t.Errorf("gave back %v, want %v", got, want)
		}
		q.Offer(tasks(6, 7))
		if got := seqs(back.ts); !slices.Equal(got, append(want, 6)) {
			t.Errorf("gave back %v", got)
		}
		if _, err := q.Acquire(t.Context(), 1); !errors.Is(err, dispatch.ErrClosed) {
			t.Errorf("Take after Close: %v", err)
		}
		if _, err := q.Demand(t.Context()); !errors.Is(err, dispatch.ErrClosed) {
			t.Errorf("Demand after Close: %v", err)
		}
	})
}

func TestCloseWakesAcquireAndDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := dispatch.New(nowhere)
		errs := make(chan error, 2)
		go func() { _, err := q.Acquire(t.Context(), 1); errs <- err }()
		go func() { _, err := q.Demand(t.Context()); errs <- err }()
		synctest.Wait()
		q.Close()
		for range 2 {
			if err := <-errs; !errors.Is(err, dispatch.ErrClosed) {
				t.Error(err)
			}
		}
	})
}

func TestACancelledAcquireLosesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := dispatch.New(nowhere)
		q.AddCapacity(2)
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() { _, err := q.Acquire(ctx, 5); gone <- err }()
		synctest.Wait()
		cancel()
		if err := <-gone; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		q.Offer(tasks(0, 2))
		got, err := q.Acquire(t.Context(), 5)
		if err != nil || len(got) != 2 {
			t.Errorf("took %v, %v", seqs(got), err)
		}
	})
}

func TestReturnPutsTasksAtTheHead(t *testing.T) {
	q := dispatch.New(nowhere)
	q.AddCapacity(4)
	q.Offer(tasks(0, 4))
	first, _ := q.Acquire(t.Context(), 2)
	q.Return(first)
	all, _ := q.Acquire(t.Context(), 4)
	if !slices.Equal(seqs(all), []int64{0, 1, 2, 3}) {
		t.Errorf("took %v", seqs(all))
	}
	if c := q.Counts(); c != (dispatch.Counts{Capacity: 4, Running: 4}) {
		t.Errorf("%+v", c)
	}
}

func TestWithoutAChildTasksAreRequeued(t *testing.T) {
	var back returns
	q := dispatch.New(back.exits())
	q.AddCapacity(2)
	q.Offer(tasks(0, 3))
	q.AddCapacity(-2) // the only child died
	q.Offer(tasks(3, 5))
	if got := seqs(back.ts); !slices.Equal(got, []int64{2, 1, 0, 4, 3}) {
		t.Errorf("gave back %v", got)
	}
}

func TestDropDoesNotRequeue(t *testing.T) {
	q := dispatch.New(dispatch.Exits{Requeue: func(task.Task) { t.Error("gave back a task of a run that is gone") }})
	q.AddCapacity(1)
	q.Offer(tasks(0, 3))
	if n := q.Drop(); n != 3 {
		t.Errorf("dropped %d", n)
	}
}

// TestATaskThatMustBeAloneIsAlone: running tasks end first, tasks that were claimed
// with it are requeued, and there is no demand until it has ended.
func TestATaskThatMustBeAloneIsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := dispatch.New(back.exits())
		q.AddCapacity(4)
		q.Offer(tasks(0, 2))
		if _, err := q.Acquire(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		batch := tasks(2, 6)
		batch[1].Isolation = task.IsolateRun
		q.Offer(batch) // 2 may start, 3 must run alone, 4 and 5 were claimed with it
		if got := seqs(back.ts); !slices.Equal(got, []int64{5, 4}) {
			t.Errorf("gave back %v", got)
		}
		if got, _ := q.Acquire(t.Context(), 4); !slices.Equal(seqs(got), []int64{2}) {
			t.Errorf("took %v", seqs(got))
		}
		took := make(chan []task.Task, 1)
		go func() { ts, _ := q.Acquire(t.Context(), 4); took <- ts }()
		demand := make(chan int, 1)
		go func() { n, _ := q.Demand(t.Context()); demand <- n }()
		for range 3 {
			synctest.Wait()
			select {
			case ts := <-took:
				t.Fatalf("%v started beside another one", seqs(ts))
			case n := <-demand:
				t.Fatalf("demand %d more", n)
			default:
			}
			q.Release(works)
		}
		if ts := <-took; !slices.Equal(seqs(ts), []int64{3}) {
			t.Fatalf("took %v", seqs(ts))
		}
		synctest.Wait()
		select {
		case n := <-demand:
			t.Fatalf("demand %d more beside the isolated one", n)
		default:
		}
		q.Release(task.SlotState{Isolated: true})
		if n := <-demand; n != 4 {
			t.Errorf("demand %d when it had ended", n)
		}
	})
}

func TestAnIsolatedTaskThatNeverStartedIsRequeued(t *testing.T) {
	var back returns
	q := dispatch.New(back.exits())
	q.AddCapacity(1)
	isolated := tasks(0, 1)
	isolated[0].Isolation = task.IsolateRun
	q.Offer(isolated)
	ts, err := q.Acquire(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	q.Return(ts)
	q.Close()
	if got := seqs(back.ts); !slices.Equal(got, []int64{0}) {
		t.Errorf("gave back %v", got)
	}
}

// TestEveryTaskIsAcquiredOrRequeuedOnce calls all methods of the queue concurrently.
func TestEveryTaskIsAcquiredOrRequeuedOnce(t *testing.T) {
	const total, acquirers = 20_000, 8
	var back returns
	q := dispatch.New(back.exits())
	q.AddCapacity(acquirers)
	seen := make(chan int64, total)
	var wg sync.WaitGroup
	for n := range acquirers {
		wg.Go(func() {
			for i := 0; ; i++ {
				ctx, cancel := context.WithCancel(t.Context())
				if (i+n)%7 == 0 {
					cancel() // an acquirer that gives up at once
				}
				ts, err := q.Acquire(ctx, 1+i%5)
				cancel()
				if errors.Is(err, dispatch.ErrClosed) {
					return
				}
				if i%11 == 0 && len(ts) > 0 {
					q.Return(ts)
					continue
				}
				for _, s := range seqs(ts) {
					seen <- s
				}
				q.ReleaseAll(make([]task.SlotState, len(ts)))
			}
		})
	}
	for i := 0; i < total; i += 10 {
		if i == total/2 {
			wg.Go(q.Close)
		}
		q.Offer(tasks(i, i+10))
	}
	wg.Wait()
	close(seen)
	count := make(map[int64]int)
	for s := range seen {
		count[s]++
	}
	for _, s := range seqs(back.ts) {
		count[s]++
	}
	for i := range int64(total) {
		if count[i] != 1 {
			t.Fatalf("task %d ended %d times", i, count[i])
		}
	}
}

func TestHandover(t *testing.T) {
	q := dispatch.New(nowhere)
	for i, step := range []struct {
		do        func()
		taken     uint64
		startable bool
	}{
		{func() {}, 0, false},
		{func() { q.AddCapacity(1) }, 0, false},
		{func() { q.Offer(kindTasks(0, 1, 2)) }, 0, true},
		{func() { _, _ = q.Acquire(t.Context(), 1) }, 1, false}, // the slot is taken
		{func() { q.Release(task.SlotState{}) }, 1, true},
		{func() { q.AddCapacity(1) }, 1, true},
		{func() { _, _ = q.Acquire(t.Context(), 1) }, 2, false},
		{func() { q.Return(kindTasks(0, 2)) }, 2, true},
		{func() { q.Halt() }, 2, false},
	} {
		step.do()
		if got := q.Handover(); got.Taken != step.taken || got.Startable != step.startable {
			t.Errorf("step %d: %+v, want %d, %t", i, got, step.taken, step.startable)
		}
	}
}
