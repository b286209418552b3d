package rpc_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// elsewhere is another container, which is reachable or not.
type elsewhere struct {
	fakes *fakes

	mu      sync.Mutex
	there   chan struct{} // closed while it is reachable
	leaving chan struct{} // closed when it drains
	tie     atomic.Bool
}

// away is a process in the other container.
type away struct {
	*fakeProc
	leaving chan struct{}
	tie     *atomic.Bool // the process ends, and its container drains, at the same moment
}

func (a away) Leaving() <-chan struct{} {
	if !a.tie.Load() {
		return a.leaving
	}
	if a.alive() {
		a.end("was cut short by its container")
		<-a.Exited()
	}
	return closed
}

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

func (a away) SharedDeath() bool { return a.Fate() == "was lost with its container" }
func (a away) Excused() bool     { return a.Fate() == "was cut short by its container" }

func newElsewhere(f *fakes) *elsewhere {
	return &elsewhere{fakes: f, there: make(chan struct{}), leaving: make(chan struct{})}
}

func (e *elsewhere) start(ctx context.Context, _ string) (local.Process, error) {
	e.mu.Lock()
	there, leaving := e.there, e.leaving
	e.mu.Unlock()
	select {
	case <-there:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	p, err := e.fakes.start(nil)
	if err != nil {
		return nil, err
	}
	return away{p.(*fakeProc), leaving, &e.tie}, nil
}

func (e *elsewhere) comes() {
	e.mu.Lock()
	defer e.mu.Unlock()
	close(e.there)
}

// goes makes the container start no more processes, and drain those that it has.
func (e *elsewhere) goes() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.there = make(chan struct{})
	close(e.leaving)
	e.leaving = make(chan struct{})
}

// ends ends every process at once.
func (e *elsewhere) ends(fate string) {
	for _, p := range e.fakes.all() {
		if p.alive() {
			p.end(fate)
		}
	}
}

func startElsewhere(t *testing.T, slots int) (*elsewhere, *fakePool) {
	e := newElsewhere(&fakes{startTime: time.Second})
	b := startFake(t, e.fakes, func(c *rpc.Config) {
		c.Command, c.Start, c.Remote, c.Slots, c.StartRetries, c.Concurrency = nil, nil, e.start, slots, 0, 1
	})
	return e, b
}

// TestAPoolWaitsForWorkersElsewhere: the pool waits without a limit and without claims,
// and a stop does not wait for the workers.
func TestAPoolWaitsForWorkersElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, b := startElsewhere(t, 2)
		done := b.push("a", task.IsolateNone)
		time.Sleep(10 * time.Hour)
		if b.pool.Up() != 0 || b.queue.Counts() != (dispatch.Counts{}) {
			t.Fatalf("%d up, %+v", b.pool.Up(), b.queue.Counts())
		}
		e.comes()
		b.wait("a", done)
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		_, b := startElsewhere(t, 2)
		began := time.Now()
		if err := b.stop(); err != nil || time.Since(began) > time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// TestAWorkerElsewhereThatDoesNotStartIsNoReasonToEnd: its own container ends instead.
func TestAWorkerElsewhereThatDoesNotStartIsNoReasonToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, b := startElsewhere(t, 1)
		e.fakes.set(func() { e.fakes.broken = true })
		e.comes()
		done := b.push("a", task.IsolateNone)
		time.Sleep(time.Hour)
		e.fakes.set(func() { e.fakes.broken = false })
		time.Sleep(time.Minute)
		b.wait("a", done)
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestAContainerThatDrainsCostsNothing: its running tasks finish there, and those that
// do not end in time are returned.
func TestAContainerThatDrainsCostsNothing(t *testing.T) {
	for _, c := range []struct {
		name  string
		takes time.Duration
		end   bool // its time is over after a minute
		want  map[task.Conclusion]int
	}{
		{"finished", 20 * time.Second, false, map[task.Conclusion]int{task.Succeeded: 2}},
		{"cut short", time.Hour, true, map[task.Conclusion]int{task.Returned: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, b := startElsewhere(t, 2)
				b.takes(c.takes)
				e.comes()
				for i := range 4 {
					b.push(fmt.Sprint("t", i), task.IsolateNone)
				}
				time.Sleep(10 * time.Second)
				e.goes()
				time.Sleep(time.Minute)
				if c.end {
					e.ends("was cut short by its container")
				}
				time.Sleep(time.Minute)
				for kind, n := range c.want {
					if got := b.count(kind); got != n {
						t.Errorf("%d %s, want %d\n%s", got, kind, n, b.log)
					}
				}
				if n := b.count(task.Lost); n != 0 || e.fakes.living() != 0 {
					t.Errorf("%d lost, %d processes", n, e.fakes.living())
				}
				if b.queue.Counts().Capacity != 0 {
					t.Error("there are slots without a worker")
				}
				e.comes()
				time.Sleep(10 * time.Second)
				if e.fakes.living() != 2 {
					t.Errorf("%d processes when the next one is there", e.fakes.living())
				}
				if err := b.stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestAContainerThatIsCutShortAtOnceIsNoDeath: the end of a child and the drain of its
// container arrive at the same moment, and the end is noticed first.
func TestAContainerThatIsCutShortAtOnceIsNoDeath(t *testing.T) {
	for range 10 { // each with two simultaneous events
		synctest.Test(t, func(t *testing.T) {
			e, b := startElsewhere(t, 2)
			b.takes(time.Hour)
			e.comes()
			b.push("t0", task.IsolateNone)
			b.push("t1", task.IsolateNone)
			time.Sleep(10 * time.Second)
			e.mu.Lock()
			e.there = make(chan struct{})
			e.mu.Unlock()
			e.tie.Store(true) // at the next ping
			time.Sleep(time.Minute)
			if strings.Contains(b.log.String(), `"worker ended"`) {
				t.Errorf("a container that has said that it goes is told as a worker that has died:\n%s", b.log)
			}
			if n := b.count(task.Returned); n != 2 || b.count(task.Lost) != 0 {
				t.Errorf("%d returned, %d lost, want 2 and 0\n%s", n, b.count(task.Lost), b.log)
			}
			if err := b.stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAContainersDeathIsMoreThanAChilds: the tasks of all its children share the loss.
func TestAContainersDeathIsMoreThanAChilds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, b := startElsewhere(t, 2)
		b.takes(time.Hour)
		e.comes()
		b.push("t", task.IsolateNone)
		time.Sleep(10 * time.Second)
		e.ends("was lost with its container")
		time.Sleep(time.Second)
		b.mu.Lock()
		last := b.lost
		b.mu.Unlock()
		if b.count(task.Lost) != 1 || !last.Whole || last.Shared {
			t.Errorf("%d lost, the last one %+v", b.count(task.Lost), last)
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}

// TestAnIsolatedTaskDoesNotWaitForAContainer: when the container has just disconnected,
// another sidecar should run the task.
func TestAnIsolatedTaskDoesNotWaitForAContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newElsewhere(&fakes{startTime: time.Second, concurrency: 2})
		var starts atomic.Int64
		b := startFake(t, e.fakes, func(c *rpc.Config) {
			c.Slots, c.Remote = 2, func(ctx context.Context, id string) (local.Process, error) {
				if starts.Add(1) > 1 {
					<-ctx.Done()
					return nil, fmt.Errorf("no worker container is connected: %w", ctx.Err())
				}
				return e.start(ctx, id)
			}
		})
		b.does(func(context.Context, *fakeProc, *protocol.Task) (any, error) { return nil, errors.New("not alone") })
		e.comes()
		time.Sleep(2 * time.Second)
		b.push("t", task.IsolateProcess)
		time.Sleep(5 * time.Second)
		if n := b.queue.Counts().Running; n != 1 {
			t.Fatalf("%d running", n)
		}
		time.Sleep(2 * time.Minute)
		if n := strings.Count(b.log.String(), "panic"); n != 0 || b.count(task.Failed) != 0 {
			t.Errorf("it was run beside others\n%s", b.log)
		}
		if n := starts.Load(); n < 3 {
			t.Errorf("%d starts: it has not been given back and tried again", n)
		}
		if err := b.stop(); err != nil {
			t.Error(err)
		}
	})
}
