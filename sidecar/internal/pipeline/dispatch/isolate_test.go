package dispatch_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

var alone = task.SlotState{Isolated: true}

// suspects are tasks that must be alone in the sidecar.
func suspects(from, to int) []task.Task {
	ts := tasks(from, to)
	for i := range ts {
		ts[i].Isolation = task.IsolateRun
	}
	return ts
}

// wantedAfter is what Want gives, and after which time.
func wantedAfter(t *testing.T, q *dispatch.Queue) (int, time.Duration) {
	t.Helper()
	began := time.Now()
	n, err := q.Demand(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n, time.Since(began)
}

func expectWant(t *testing.T, q *dispatch.Queue, what string, n int, after time.Duration) {
	t.Helper()
	if got, d := wantedAfter(t, q); got != n || d != after {
		t.Errorf("%s: wanted %d after %v, expected %d after %v", what, got, d, n, after)
	}
}

// TestIsolationEnds: whatever a task that must be alone meets, claims are held for a
// bounded time only, and the task has left the queue, or runs, when that is over.
func TestIsolationEnds(t *testing.T) {
	type state struct {
		t    *testing.T
		q    *dispatch.Queue
		back *returns
	}
	// With four slots, of which one has the task 0, the suspect 1 is put.
	for _, c := range []struct {
		name  string
		first []task.SlotState // how task 0 goes on before the suspect comes
		does  func(s state)
		n     int           // wanted at last, and
		after time.Duration // when
		aside []int64
		back  []int64
		taken []int64 // of what may start then
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
				expectWant(s.t, s.q, "one last look", 1, 0)
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
					s.t.Error("wanted after Halt")
				}
				s.q.Close()
			},
		},
		{
			name: "a task comes meanwhile", n: 3, after: time.Second, aside: []int64{1}, back: []int64{2},
			does: func(s state) { s.q.Offer(tasks(2, 3)) },
		},
		{
			name: "another suspect comes meanwhile", n: 3, after: time.Second, aside: []int64{1}, back: []int64{2},
			does: func(s state) { s.q.Offer(suspects(2, 3)) },
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
				s.q.Offer(suspects(1, 2))
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
						t.Errorf("wanted %d after %v, expected %d after %v", n, d, c.n, c.after)
					}
				}
				synctest.Wait() // for the rest of what ended the wait
				same(t, "taken", taken, c.taken)
				same(t, "set aside", seqs(s.back.aside), c.aside)
				same(t, "given back", seqs(s.back.ts), c.back)
			})
		})
	}
}

// TestARunningSuspectHoldsClaimsForABound: while it runs and nothing else does, for
// ten seconds, the wait before it included. Then others run beside it, and for as long
// again no claims are held.
func TestARunningSuspectHoldsClaimsForABound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := limited(&back, 4, 0)
		q.Offer(tasks(0, 1))
		took(t, q, 1)
		q.Offer(suspects(1, 2))
		time.AfterFunc(900*time.Millisecond, func() { q.Release(works) })
		if ts, err := q.Acquire(t.Context(), 1); err != nil || len(ts) != 1 {
			t.Fatal(ts, err)
		}
		expectWant(t, q, "the suspect runs", 3, 9100*time.Millisecond)
		q.Offer(tasks(2, 4))
		same(t, "taken beside it", took(t, q, 4), []int64{2, 3})
		q.Offer(suspects(4, 5))
		same(t, "one more is set aside at once", seqs(back.aside), []int64{4})
		expectWant(t, q, "and holds nothing", 1, 0)
		q.Release(works)
		q.Release(works)
		expectWant(t, q, "it is alone again", 3, 0)
		q.Release(alone)
		time.Sleep(998 * time.Millisecond) // and the millisecond of took
		if q.CanIsolate() {
			t.Error("it takes one more before a second without a hold has passed")
		}
		time.Sleep(2 * time.Millisecond)
		if !q.CanIsolate() {
			t.Error("it takes no more")
		}
		same(t, "given back", seqs(back.ts), nil)
	})
}

// TestASuspectIsNotWaitedForAgainAndAgain: what runs here is not short. After one that
// was set aside, the next ones are, too, at once, for ten seconds.
func TestASuspectIsNotWaitedForAgainAndAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := limited(&back, 4, 0)
		q.Offer(tasks(0, 1))
		took(t, q, 1)
		q.Offer(suspects(1, 2))
		expectWant(t, q, "the first", 3, time.Second)
		for n := range 9 {
			q.Offer(suspects(n+2, n+3))
			expectWant(t, q, "the next", 3, 0)
			time.Sleep(time.Second)
		}
		same(t, "set aside", seqs(back.aside), []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10})
		time.Sleep(time.Second)
		q.Offer(suspects(11, 12))
		expectWant(t, q, "ten seconds later", 3, time.Second)
		q.Release(works)
		q.Offer(suspects(12, 13))
		same(t, "taken when nothing else runs", took(t, q, 4), []int64{12})
		expectWant(t, q, "and holds nothing", 3, 0)
		same(t, "given back", seqs(back.ts), nil)
	})
}

// TestASuspectBesideAWaitingTaskHoldsNothing: its death would be shared, whatever is
// held, and what the other one waits for may have nowhere else to run.
func TestASuspectBesideAWaitingTaskHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := dispatch.NewKinds(2, back.exits())
		a, b := q.LaneOf(0), q.LaneOf(1)
		a.AddCapacity(2)
		b.AddCapacity(2)
		q.Offer(kindTasks(0, 1))
		same(t, "taken", taken(t, a, 1), []int64{1})
		a.Update(works, waits)
		q.Offer([]task.Task{{Seq: 2, Kind: 1, Isolation: task.IsolateRun}})
		same(t, "it starts at once", taken(t, b, 1), []int64{2})
		same(t, "wanted beside it", q.Demands(), []int{1, 1})
		b.Release(alone)
		same(t, "wanted after it", q.Demands(), []int{1, 2})
	})
}

// TestAllKindsWaitForASecond: a suspect of one kind, a long task of another.
func TestAllKindsWaitForASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := dispatch.NewKinds(2, back.exits())
		a, b := q.LaneOf(0), q.LaneOf(1)
		a.AddCapacity(2)
		b.AddCapacity(2)
		q.Offer(kindTasks(1, 1))
		same(t, "taken", taken(t, b, 1), []int64{1})
		q.Offer([]task.Task{{Seq: 2, Isolation: task.IsolateRun}})
		same(t, "wanted", q.Demands(), []int{0, 0})
		time.Sleep(500 * time.Millisecond)
		expectWant(t, q, "in the middle of a look", 3, 500*time.Millisecond)
		same(t, "set aside", seqs(back.aside), []int64{2})
	})
}

// TestCanIsolate says when an idle sidecar takes a record that must be alone.
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
		{"a suspect is about to run", func(_ *testing.T, q *dispatch.Queue) { q.Offer(suspects(0, 1)) }, false},
		{"a suspect has run for a second", func(t *testing.T, q *dispatch.Queue) {
			q.Offer(suspects(0, 1))
			took(t, q, 1)
			time.Sleep(time.Second)
			q.Release(alone)
		}, true},
		{"quiet", func(_ *testing.T, q *dispatch.Queue) { q.Quiet() }, false},
		{"halted", func(_ *testing.T, q *dispatch.Queue) { q.Halt() }, false},
		{"a suspect ended before a long pause", func(t *testing.T, q *dispatch.Queue) {
			q.Offer(suspects(0, 1))
			took(t, q, 1)
			q.Quiet()
			q.Release(alone)
			time.Sleep(time.Hour)
			q.Resume()
		}, true},
		{"the workers went for long while a suspect waited", func(t *testing.T, q *dispatch.Queue) {
			q.Offer(tasks(0, 1))
			took(t, q, 1)
			q.Offer(suspects(1, 2))
			q.AddCapacity(-4)
			time.Sleep(time.Hour)
			q.AddCapacity(4)
			q.Release(works)
		}, true},
		{"a suspect has run for an hour", func(t *testing.T, q *dispatch.Queue) {
			q.Offer(suspects(0, 1))
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

// TestUndoOfSuspects: one that its worker did not start waits again; of a second one
// that comes back meanwhile the queue lets go.
func TestUndoOfSuspects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var back returns
		q := limited(&back, 4, 4)
		q.Offer(suspects(0, 1))
		ts, err := q.Acquire(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		q.Update(alone, task.SlotState{Isolated: true, Waiting: true}) // and so the next may start
		q.Offer(suspects(1, 2))
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
		expectWant(t, q, "when it has ended", 4, 0)
		if c := q.Counts(); c != (dispatch.Counts{Capacity: 4}) {
			t.Errorf("%+v", c)
		}
	})
}
