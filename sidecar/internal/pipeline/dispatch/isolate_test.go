package dispatch_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

var alone = task.SlotState{Isolated: true}

// isolatedTasks returns tasks that must run alone in the sidecar.
func isolatedTasks(from, to int) []task.Task {
	ts := tasks(from, to)
	for i := range ts {
		ts[i].Isolation = task.IsolateRun
	}
	return ts
}

// demandAfter returns the result of Demand and the time until then.
func demandAfter(t *testing.T, q *dispatch.Queue) (int, time.Duration) {
	t.Helper()
	began := time.Now()
	n, err := q.Demand(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n, time.Since(began)
}

func expectDemand(t *testing.T, q *dispatch.Queue, what string, n int, after time.Duration) {
	t.Helper()
	if got, d := demandAfter(t, q); got != n || d != after {
		t.Errorf("%s: demand %d after %v, expected %d after %v", what, got, d, n, after)
	}
}

// TestIsolationEnds: whatever happens to a task that must run alone, it blocks claims
// for a bounded time only. Afterwards it has left the queue or runs.
func TestIsolationEnds(t *testing.T) {
	type state struct {
		t    *testing.T
		q    *dispatch.Queue
		back *returns
	}
	// With four slots, one of them taken by task 0, the isolated task 1 is offered.
	for _, c := range []struct {
		name  string
		first []task.SlotState // updates of task 0 before the isolated task is offered
		does  func(s state)
		n     int           // the final demand, and
		after time.Duration // the time until then
		aside []int64
		back  []int64
		taken []int64 // tasks that start then
	}{
		{name: "a long task runs", n: 3, after: time.Second, aside: []int64{1}},
		{
			name: "it ends within the second", taken: []int64{1},
			does: func(s state) { time.AfterFunc(400*time.Millisecond, func() { s.q.Release(works) }) },
		},
		{
			name: "it ends just after", n: 3, after: time.Second, aside: []int64{1},
			does: func(s state) { time.AfterFunc(1001*time.Millisecond, func() { s.q.Release(works) }) },
		},
		{
			name: "it begins to wait within the second", taken: []int64{1},
			does: func(s state) { time.AfterFunc(400*time.Millisecond, func() { s.q.Update(works, waits) }) },
		},
		{name: "it only waits", first: []task.SlotState{waits}, taken: []int64{1}},
		{name: "it only waits, and no worker takes anything", first: []task.SlotState{waits}, n: 3, after: time.Second, aside: []int64{1}},
		{
			name: "the workers go", n: 4, after: 300 * time.Millisecond, back: []int64{1},
			does: func(s state) {
				time.AfterFunc(200*time.Millisecond, func() { s.q.AddCapacity(-4) })
				time.AfterFunc(300*time.Millisecond, func() { s.q.Release(works); s.q.AddCapacity(4) })
			},
		},
		{
			name: "the lease is lost", n: 3, after: 200 * time.Millisecond,
			does: func(s state) {
				time.AfterFunc(200*time.Millisecond, func() {
					if n := s.q.Drop(); n != 1 {
						s.t.Errorf("dropped %d", n)
					}
				})
			},
		},
		{
			name: "the queue is quiet, and then not", n: 3, after: 3 * time.Second, aside: []int64{1},
			does: func(s state) {
				s.q.Quiet()
				expectDemand(s.t, s.q, "one last look", 1, 0)
				time.AfterFunc(3*time.Second, s.q.Resume)
			},
		},
		{
			name: "the sidecar stops", n: -1, after: 200 * time.Millisecond, back: []int64{1},
			does: func(s state) { time.AfterFunc(200*time.Millisecond, s.q.Close) },
		},
		{
			name: "the sidecar stops when its time is over", n: -1, after: 2 * time.Second, back: []int64{1},
			does: func(s state) {
				time.Sleep(2 * time.Second)
				s.q.Halt()
				if _, err := s.q.Demand(s.t.Context()); err == nil {
					s.t.Error("demand after Halt")
				}
				s.q.Close()
			},
		},
		{
			name: "a task comes meanwhile", n: 3, after: time.Second, aside: []int64{1}, back: []int64{2},
			does: func(s state) { s.q.Offer(tasks(2, 3)) },
		},
		{
			name: "another isolated task comes meanwhile", n: 3, after: time.Second, aside: []int64{1}, back: []int64{2},
			does: func(s state) { s.q.Offer(isolatedTasks(2, 3)) },
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := state{t, nil, &returns{}}
				s.q = limited(s.back, 4, 0)
				s.q.Offer(tasks(0, 1))
				same(t, "taken first", took(t, s.q, 1), []int64{0})
				for _, to := range c.first {
					s.q.Update(works, to)
				}
				s.q.Offer(isolatedTasks(1, 2))
				if c := s.q.Counts(); c.Ready != 1 {
					t.Errorf("%+v", c)
				}
				began := time.Now()
				if c.does != nil {
					c.does(s)
				}
				var taken []int64
				if len(c.taken) > 0 {
					ts, err := s.q.Acquire(t.Context(), 4)
					if err != nil {
						t.Fatal(err)
					}
					taken = seqs(ts)
				} else {
					n, err := s.q.Demand(t.Context())
					if err != nil {
						n = -1
					}
					if d := time.Since(began); n != c.n || d != c.after {
						t.Errorf("demand %d after %v, expected %d after %v", n, d, c.n, c.after)
					}
				}
				synctest.Wait() // lets the other goroutines finish
				same(t, "taken", taken, c.taken)
				same(t, "set aside", seqs(s.back.aside), c.aside)
				same(t, "given back", seqs(s.back.ts), c.back)
			})
		})
	}
}

// TestARunningIsolatedTaskBlocksClaimsForABoundedTime: it blocks claims for ten
// seconds, including the wait before it. Other tasks then run beside it, and claims are
// not blocked for as long.
func TestARunningIsolatedTaskBlocksClaimsForABoundedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := limited(&back, 4, 0)
		q.Offer(tasks(0, 1))
		took(t, q, 1)
		q.Offer(isolatedTasks(1, 2))
		time.AfterFunc(900*time.Millisecond, func() { q.Release(works) })
		if ts, err := q.Acquire(t.Context(), 1); err != nil || len(ts) != 1 {
			t.Fatal(ts, err)
		}
		expectDemand(t, q, "the isolated task runs", 3, 9100*time.Millisecond)
		q.Offer(tasks(2, 4))
		same(t, "taken beside it", took(t, q, 4), []int64{2, 3})
		q.Offer(isolatedTasks(4, 5))
		same(t, "one more is set aside at once", seqs(back.aside), []int64{4})
		expectDemand(t, q, "and blocks nothing", 1, 0)
		q.Release(works)
		q.Release(works)
		expectDemand(t, q, "it is alone again", 3, 0)
		q.Release(alone)
		time.Sleep(998 * time.Millisecond) // and the millisecond of took
		if q.CanIsolate() {
			t.Error("another one starts before a second without blocking has passed")
		}
		time.Sleep(2 * time.Millisecond)
		if !q.CanIsolate() {
			t.Error("it takes no more")
		}
		same(t, "given back", seqs(back.ts), nil)
	})
}

// TestNoRepeatedWaitForAnIsolatedTask: the running tasks are long. After one isolated
// task was deferred, the following ones are deferred at once, for ten seconds.
func TestNoRepeatedWaitForAnIsolatedTask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := limited(&back, 4, 0)
		q.Offer(tasks(0, 1))
		took(t, q, 1)
		q.Offer(isolatedTasks(1, 2))
		expectDemand(t, q, "the first", 3, time.Second)
		for n := range 9 {
			q.Offer(isolatedTasks(n+2, n+3))
			expectDemand(t, q, "the next", 3, 0)
			time.Sleep(time.Second)
		}
		same(t, "set aside", seqs(back.aside), []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10})
		time.Sleep(time.Second)
		q.Offer(isolatedTasks(11, 12))
		expectDemand(t, q, "ten seconds later", 3, time.Second)
		q.Release(works)
		q.Offer(isolatedTasks(12, 13))
		same(t, "taken when nothing else runs", took(t, q, 4), []int64{12})
		expectDemand(t, q, "and blocks nothing", 3, 0)
		same(t, "given back", seqs(back.ts), nil)
	})
}

// TestAnIsolatedTaskBesideAWaitingTaskBlocksNothing: its loss would be shared anyway,
// and the tasks that the other one waits for may have no other place to run.
func TestAnIsolatedTaskBesideAWaitingTaskBlocksNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := dispatch.NewKinds(2, back.exits())
		a, b := q.LaneOf(0), q.LaneOf(1)
		a.AddCapacity(2)
		b.AddCapacity(2)
		q.Offer(kindTasks(0, 1))
		same(t, "taken", took(t, a, 1), []int64{1})
		a.Update(works, waits)
		q.Offer([]task.Task{{Seq: 2, Kind: 1, Isolation: task.IsolateRun}})
		same(t, "it starts at once", took(t, b, 1), []int64{2})
		same(t, "demand beside it", q.Demands(), []int{1, 1})
		b.Release(alone)
		same(t, "demand after it", q.Demands(), []int{1, 2})
	})
}

// TestAllKindsWaitForASecond: an isolated task of one kind waits for a long task of
// another.
func TestAllKindsWaitForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := dispatch.NewKinds(2, back.exits())
		a, b := q.LaneOf(0), q.LaneOf(1)
		a.AddCapacity(2)
		b.AddCapacity(2)
		q.Offer(kindTasks(1, 1))
		same(t, "taken", took(t, b, 1), []int64{1})
		q.Offer([]task.Task{{Seq: 2, Isolation: task.IsolateRun}})
		same(t, "demand", q.Demands(), []int{0, 0})
		time.Sleep(500 * time.Millisecond)
		expectDemand(t, q, "in the middle of a look", 3, 500*time.Millisecond)
		same(t, "set aside", seqs(back.aside), []int64{2})
	})
}

// TestCanIsolate: when an idle sidecar takes a record that must run alone.
func TestCanIsolate(t *testing.T) {
	for _, c := range []struct {
		name string
		does func(t *testing.T, q *dispatch.Queue)
		want bool
	}{
		{"idle", func(*testing.T, *dispatch.Queue) {}, true},
		{"no worker", func(_ *testing.T, q *dispatch.Queue) { q.AddCapacity(-4) }, false},
		{"a task runs", func(t *testing.T, q *dispatch.Queue) { q.Offer(tasks(0, 1)); took(t, q, 1) }, false},
		{"a task waits", func(t *testing.T, q *dispatch.Queue) { q.Offer(tasks(0, 1)); took(t, q, 1); q.Update(works, waits) }, false},
		{"a task is about to run", func(_ *testing.T, q *dispatch.Queue) { q.Offer(tasks(0, 1)) }, false},
		{"a task has run", func(t *testing.T, q *dispatch.Queue) { q.Offer(tasks(0, 1)); took(t, q, 1); q.Release(works) }, true},
		{"an isolated task is about to run", func(_ *testing.T, q *dispatch.Queue) { q.Offer(isolatedTasks(0, 1)) }, false},
		{"an isolated task has run for a second", func(t *testing.T, q *dispatch.Queue) {
			q.Offer(isolatedTasks(0, 1))
			took(t, q, 1)
			time.Sleep(time.Second)
			q.Release(alone)
		}, true},
		{"quiet", func(_ *testing.T, q *dispatch.Queue) { q.Quiet() }, false},
		{"halted", func(_ *testing.T, q *dispatch.Queue) { q.Halt() }, false},
		{"an isolated task ended before a long pause", func(t *testing.T, q *dispatch.Queue) {
			q.Offer(isolatedTasks(0, 1))
			took(t, q, 1)
			q.Quiet()
			q.Release(alone)
			time.Sleep(time.Hour)
			q.Resume()
		}, true},
		{"the workers went for long while an isolated task waited", func(t *testing.T, q *dispatch.Queue) {
			q.Offer(tasks(0, 1))
			took(t, q, 1)
			q.Offer(isolatedTasks(1, 2))
			q.AddCapacity(-4)
			time.Sleep(time.Hour)
			q.AddCapacity(4)
			q.Release(works)
		}, true},
		{"an isolated task has run for an hour", func(t *testing.T, q *dispatch.Queue) {
			q.Offer(isolatedTasks(0, 1))
			took(t, q, 1)
			q.Quiet()
			time.Sleep(time.Hour)
			q.Release(alone)
			q.Resume()
			time.Sleep(11 * time.Second)
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := limited(&returns{}, 4, 4)
				c.does(t, q)
				if got := q.CanIsolate(); got != c.want {
					t.Errorf("can isolate: %t", got)
				}
			})
		})
	}
}

// TestReturnOfIsolatedTasks: an isolated task that its worker did not start waits
// again. A second one that is returned meanwhile leaves the queue.
func TestReturnOfIsolatedTasks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := limited(&back, 4, 4)
		q.Offer(isolatedTasks(0, 1))
		ts, err := q.Acquire(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		q.Update(alone, task.SlotState{Isolated: true, Waiting: true}) // so that the next may start
		q.Offer(isolatedTasks(1, 2))
		more, err := q.Acquire(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		q.Update(task.SlotState{Isolated: true, Waiting: true}, alone)
		q.Return(more)
		q.Return(ts)
		same(t, "given back", seqs(back.ts), []int64{0})
		same(t, "taken again", took(t, q, 4), []int64{1})
		q.Release(alone)
		expectDemand(t, q, "when it has ended", 4, 0)
		if c := q.Counts(); c != (dispatch.Counts{Capacity: 4}) {
			t.Errorf("%+v", c)
		}
	})
}
