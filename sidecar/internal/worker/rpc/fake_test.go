package rpc_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// fakes are worker processes that are goroutines running the protocol's own Go worker,
// for tests that take minutes, in a bubble of testing/synctest. Tests of real processes
// are in pool_test.go.
type fakes struct {
	pool        *fakePool
	concurrency int
	speaks      func(in, out net.Conn) // replaces the protocol's own worker
	startTime   time.Duration          // before a worker answers initialize

	mu     sync.Mutex
	broken bool          // the next ones cannot be started
	why    error         // for this reason
	lives  time.Duration // the lifetime of each process; 0 means until it is ended
	procs  []*fakeProc
	most   int // maximum number of processes at once
}

type fakeProc struct {
	fakes                 *fakes
	pid                   int
	born                  time.Time
	stdin, stdout, stderr net.Conn
	exited                chan struct{}
	end                   func(fate string)
	fate                  atomic.Pointer[string]
	tasks                 atomic.Int64 // number of tasks that it was given
	ended                 time.Time
}

func (p *fakeProc) Pid() int                { return p.pid }
func (p *fakeProc) Stdin() local.WritePipe  { return p.stdin }
func (p *fakeProc) Stdout() local.ReadPipe  { return p.stdout }
func (p *fakeProc) Stderr() local.ReadPipe  { return p.stderr }
func (p *fakeProc) Exited() <-chan struct{} { return p.exited }
func (p *fakeProc) Fate() string            { return *p.fate.Load() }

func (p *fakeProc) Signal(sig syscall.Signal) {
	if sig == syscall.SIGKILL {
		p.end("was killed")
	}
}

func (p *fakeProc) alive() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

func (f *fakes) start(*exec.Cmd) (local.Process, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken {
		return nil, cmp.Or(f.why, errors.New("broken"))
	}
	p := &fakeProc{fakes: f, pid: 1000 + len(f.procs), born: time.Now(), exited: make(chan struct{})}
	var in, out, errs net.Conn
	p.stdin, in = net.Pipe()
	p.stdout, out = net.Pipe()
	p.stderr, errs = net.Pipe()
	closing := make(chan struct{})
	p.end = func() func(string) {
		var once sync.Once
		return func(fate string) {
			once.Do(func() {
				p.fate.Store(&fate)
				// Close stdout first: when its stdin ends, a worker ends its tasks, but a
				// dead process answers none of them.
				for _, c := range []net.Conn{out, in, errs} {
					_ = c.Close()
				}
				close(closing)
			})
		}
	}()
	if f.lives > 0 {
		time.AfterFunc(f.lives, func() { p.end("exited with status 1") })
	}
	f.procs = append(f.procs, p)
	f.most = max(f.most, f.livingLocked())
	go func() {
		select {
		case <-time.After(f.startTime):
		case <-closing: // killed before it had started
			return
		}
		if f.speaks != nil {
			f.speaks(in, out)
			p.end("exited with status 0")
			return
		}
		_ = protocol.Serve(context.Background(), func(ctx context.Context, t *protocol.Task) (any, error) {
			p.tasks.Add(1)
			f.pool.mu.Lock()
			handle := f.pool.handle
			f.pool.mu.Unlock()
			return handle(ctx, p, t)
		}, protocol.WithIO(in, out), protocol.WithConcurrency(max(f.concurrency, 1)))
		p.end("exited with status 0")
	}()
	go func() {
		<-closing
		f.mu.Lock()
		p.ended = time.Now()
		f.mu.Unlock()
		close(p.exited)
	}()
	return p, nil
}

func (f *fakes) livingLocked() (n int) {
	for _, p := range f.procs {
		if p.alive() {
			n++
		}
	}
	return n
}

func (f *fakes) living() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.livingLocked()
}

// atOnce returns the maximum number of processes at the same time.
func (f *fakes) atOnce() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.most
}

func (f *fakes) lived(p *fakeProc) time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return p.ended.Sub(p.born)
}

func (f *fakes) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakes) all() []*fakeProc {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.procs)
}

// fakePool is a pool of fakes with a queue whose records come from a list.
type fakePool struct {
	t     *testing.T
	fakes *fakes
	queue *dispatch.Queue
	pool  *rpc.Pool
	log   *testlog.Buffer

	mu       sync.Mutex
	handle   fakeHandler
	list     []task.Task // the queue in Redis
	seq      int64
	outcomes map[task.Conclusion]int
	lost     task.Outcome             // the last one
	failed   task.Outcome             // the last one
	done     map[string]chan struct{} // by task id; closed when the task has ended
	working  int                      // tasks at work now
	busiest  int

	soft, hard context.CancelFunc
	ended      chan error
	claiming   chan struct{}
}

type fakeHandler func(ctx context.Context, p *fakeProc, t *protocol.Task) (any, error)

// does sets what tasks do that start from now on.
func (b *fakePool) does(h fakeHandler) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.handle, b.busiest = h, 0
}

// startFake starts a fakePool. The test ends it with stop.
func startFake(t *testing.T, f *fakes, change func(*rpc.Config)) *fakePool {
	t.Helper()
	b := &fakePool{
		t: t, fakes: f, log: &testlog.Buffer{}, outcomes: make(map[task.Conclusion]int), done: make(map[string]chan struct{}),
		ended: make(chan error, 1), claiming: make(chan struct{}),
		handle: func(context.Context, *fakeProc, *protocol.Task) (any, error) { return nil, nil },
	}
	f.pool = b
	cfg := rpc.Config{
		Command: []string{"fake"}, Slots: 1, WorkerID: "test", Version: "test", StartTimeout: time.Minute,
		Restart:      backoff.Policy{Min: 100 * time.Millisecond, Max: 30 * time.Second},
		PingInterval: 15 * time.Second, PingTimeout: 30 * time.Second, WriteTimeout: 30 * time.Second,
		KillGrace: 5 * time.Second, MaxMessageBytes: 1 << 20, Start: f.start,
		Log: slog.New(slog.NewTextHandler(b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	change(&cfg)
	b.queue = dispatch.New(dispatch.Exits{Requeue: b.requeue, Defer: func(x task.Task) {
		time.AfterFunc(10*time.Second, func() { x.Isolation = task.IsolateProcess; b.requeue(x) })
	}})
	b.queue.Limit(cfg.Slots, cfg.MaxExtra)
	b.pool = rpc.New(cfg, b.queue, b)
	soft, endSoft := context.WithCancel(t.Context())
	hard, endHard := context.WithCancel(t.Context())
	b.soft, b.hard = endSoft, endHard
	go func() { b.ended <- b.pool.Run(soft, hard) }()
	go func() {
		defer close(b.claiming)
		for {
			n, err := b.queue.Demand(soft)
			if err != nil {
				return
			}
			for len(b.claim(n)) == 0 { // like the blocking wait
				if soft.Err() != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
				if n, err = b.queue.Demand(soft); err != nil {
					return
				}
			}
		}
	}()
	synctest.Wait()
	return b
}

func (b *fakePool) claim(n int) []task.Task {
	b.mu.Lock()
	n = min(n, len(b.list))
	got := slices.Clone(b.list[:n])
	b.list = slices.Delete(b.list, 0, n)
	b.mu.Unlock()
	if len(got) > 0 {
		b.queue.Offer(got)
	}
	return got
}

// requeue puts a record at the head of the queue, under a new delivery.
func (b *fakePool) requeue(x task.Task) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.giveBackLocked(x)
}

func (b *fakePool) giveBackLocked(x task.Task) {
	b.seq++
	x.Delivery, x.Seq = fmt.Sprint("run.", b.seq), b.seq
	b.list = slices.Insert(b.list, 0, x)
}

// Add implements the pool's sink: it requeues tasks that have not ended.
func (b *fakePool) Add(o task.Outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.outcomes[o.Conclusion]++
	switch o.Conclusion {
	case task.Returned:
		b.giveBackLocked(o.Task)
	case task.Lost:
		b.lost = o
	default:
		if o.Conclusion == task.Failed {
			b.failed = o
		}
		close(b.done[o.Task.Info.TaskID])
	}
}

func (b *fakePool) AddAll(os []task.Outcome) {
	for _, o := range os {
		b.Add(o)
	}
}

// push adds a task at the head of the queue, like the members of a group.
func (b *fakePool) push(id string, isolation task.Isolation) <-chan struct{} {
	b.mu.Lock()
	b.done[id] = make(chan struct{})
	done := b.done[id]
	b.mu.Unlock()
	b.requeue(task.Task{Attempt: 1, Isolation: isolation, Record: fmt.Appendf(nil, `{"task_id":%q}`, id), Info: task.Info{TaskID: id}})
	return done
}

// work counts the calling task as working for a time, or until ctx ends: a worker whose
// sidecar has ended does not wait for its tasks.
func (b *fakePool) work(ctx context.Context, d time.Duration) {
	b.mu.Lock()
	b.working++
	b.busiest = max(b.busiest, b.working)
	b.mu.Unlock()
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
	b.mu.Lock()
	b.working--
	b.mu.Unlock()
}

// most returns the maximum number of tasks that worked at the same time.
func (b *fakePool) most() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.busiest
}

func (b *fakePool) count(k task.Conclusion) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.outcomes[k]
}

// wait waits until a task has ended, for as long as a producer waits.
func (b *fakePool) wait(what string, done <-chan struct{}) {
	b.t.Helper()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		b.t.Fatalf("%s did not end within 30 s\n%s", what, b.log)
	}
}

// stop ends the pool and checks that nothing is left of it.
func (b *fakePool) stop() error {
	b.t.Helper()
	b.queue.Halt()
	b.soft()
	b.hard()
	err := <-b.ended
	<-b.claiming
	b.queue.Close()
	if n := b.fakes.living(); n != 0 {
		b.t.Errorf("%d processes are left", n)
	}
	if left := b.pool.Slots(); len(left) != 0 || b.pool.Up() != 0 {
		b.t.Errorf("left: %+v, %d up", left, b.pool.Up())
	}
	if c := b.queue.Counts(); c != (dispatch.Counts{}) {
		b.t.Errorf("left in the queue: %+v", c)
	}
	return err
}
