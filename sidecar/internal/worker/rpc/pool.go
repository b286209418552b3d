// Package rpc runs worker processes and gives them tasks over the worker protocol
// (protocol/PROTOCOL.md). A Pool runs as many children as its slots need. Each child
// has a supervisor that starts it, gives it tasks and replaces it.
package rpc

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// Source supplies tasks to the worker processes. *dispatch.Lane implements it.
type Source interface {
	// AddCapacity adds n slots, or removes slots for a negative n.
	AddCapacity(n int)
	// Acquire waits for up to limit tasks.
	Acquire(ctx context.Context, limit int) ([]task.Task, error)
	// Return returns acquired tasks that were not written to a worker process.
	Return(ts []task.Task)
	// Update changes the slot state of an acquired task.
	Update(from, to task.SlotState)
	// Release frees the slot of a task that has ended.
	Release(p task.SlotState)
	// ReleaseAll frees the slots of several tasks. It does not retain the slice.
	ReleaseAll(ps []task.SlotState)
}

// Sink receives the outcomes. Its methods must not block, and must work as long as any
// worker process lives. AddAll does not retain the slice.
type Sink interface {
	Add(o task.Outcome)
	AddAll(os []task.Outcome)
}

// Config is the configuration of a Pool. Every duration is required.
type Config struct {
	Command []string
	Name    string // the worker's name in messages; the command if empty
	// Adapter says that the command is the sidecar's own adapter for Graflow: it speaks the
	// protocol, and takes as long to start as its imports do.
	Adapter bool
	Dir     string
	Env     []string   // complete
	Files   []*os.File // inherited as file descriptors 3, 4 …
	// RefreshEnv, if set, returns variables for each new child that replace those of
	// Env, since their values may have changed. It may be called concurrently.
	RefreshEnv func() []string

	// Concurrency is the number that the worker will declare, if it is known in
	// advance. All children then start at once; otherwise the first one starts alone
	// and declares it.
	Concurrency int
	Slots       int // tasks at once over all children
	FirstSlot   int // number of the first child's slot
	WorkerID    string
	Version     string        // of the sidecar
	TaskTimeout time.Duration // of one task; 0 means none

	StartTimeout    time.Duration
	StartRetries    int            // after the first failure, for a worker that never started
	Restart         backoff.Policy // pause before a restart, with full jitter
	PingInterval    time.Duration
	PingTimeout     time.Duration // an idle child that does not answer for longer is replaced
	WriteTimeout    time.Duration // a child that reads nothing for longer is replaced
	KillGrace       time.Duration // between the steps that end a process: stdin, SIGTERM, SIGKILL
	MaxMessageBytes int

	// Fork, if set, starts each child. It calls otherwise where it cannot fork one.
	Fork func(cmd *exec.Cmd, otherwise local.Start) (local.Process, error)
	// Remote, if set, starts every child in another container; Command, Dir, Env, Files
	// and Fork are then ignored. It waits until a host has connected that runs the
	// child with the given process id.
	Remote func(ctx context.Context, id string) (local.Process, error)
	// CrashLoopExit ends Run with a *CrashLoopError when every slot's worker keeps
	// dying. Otherwise only CrashLoop reports it, and the pool goes on.
	CrashLoopExit bool

	// Limits of the use of one child; 0 means no limit. Each child gets limits that are
	// lower by a random share of up to a fifth.
	MaxTasksPerChild int
	MaxChildAge      time.Duration
	MaxChildRSS      int64 // bytes

	MaxExtra int // maximum number of extra slots, for tasks while others only wait

	// Replaced, if set, is called for every worker process that is replaced, with the
	// reason: crash, fault (it was ended for a breach of the protocol), start (it did
	// not initialize), recycled. Misbehaved is called for every breach of the protocol:
	// print, malformed, too_long, stray. Neither may block.
	Replaced, Misbehaved func(what string)

	// Requests serves the requests of workers; nil refuses all of them (P13).
	Requests Requests
	// Start and Resident are for tests; nil starts real processes, and measures their
	// memory.
	Start    local.Start
	Resident func(pid int) (int64, error)

	Log *slog.Logger
}

// healthyAfter is how long a child must have lived for its next restart to have a short
// pause again.
const healthyAfter = time.Minute

// Pool runs the children. It implements worker.Pool.
type Pool struct {
	cfg     Config
	src     Source
	sink    Sink
	start   local.Start // set by Run, like stop and failed
	stop    func()      // ends Run like the end of its soft context
	failed  chan error  // the error of Run
	started atomic.Bool // a child has initialized
	up      atomic.Int64

	aside        sync.WaitGroup // goroutines beside the supervisors of the slots: see runIsolated, runExtra, serve
	requests     sync.WaitGroup // requests that are being served
	sized        chan int       // the concurrency that the first child declared
	restart      chan struct{}  // one token, see Restart
	restartSlot  chan int       // slots, see RestartSlot
	recycleCheck chan struct{}  // one token: a child may have to be recycled, see recycleLoop
	extraChanged chan struct{}  // one token: waiting has changed, see runExtra
	waiting      atomic.Int64   // running tasks that only wait for others
	crashLoop    crashLoop
	selfExits    selfExits

	evicted atomic.Pointer[string] // the run that last lost its lease

	mu       sync.Mutex
	children map[*child]struct{} // the children that serve
	live     map[*child]struct{} // the children whose process may still run, see sweep
}

// New prepares a pool; nothing runs before Run.
func New(cfg Config, src Source, sink Sink) *Pool {
	if cfg.Name == "" {
		cfg.Name = strings.Join(cfg.Command, " ")
	}
	// Full jitter spreads the restarts of children that died together over the whole
	// pause. They load this machine only.
	cfg.Restart.Full = true
	return &Pool{
		cfg: cfg, src: src, sink: sink, crashLoop: crashLoop{inARow: make(map[int]int)},
		sized: make(chan int, 1), restart: make(chan struct{}, 1), restartSlot: make(chan int, 8), recycleCheck: make(chan struct{}, 1), extraChanged: make(chan struct{}, 1),
		children: make(map[*child]struct{}), live: make(map[*child]struct{}),
	}
}

// Run starts the children and keeps them running until soft ends; they then take no
// more tasks and finish those that they have. When hard ends too, they are killed and
// their tasks are returned through the sink. Run returns when every child is gone: nil
// after a stop, a StartError when no child could ever be started, a CrashLoopError if
// Config.CrashLoopExit is set.
func (p *Pool) Run(soft, hard context.Context) error {
	p.start = p.cfg.Start
	if p.start == nil {
		spawner := local.NewSpawner()
		defer spawner.Stop()
		p.start = spawner.Start
	}
	if fork, otherwise := p.cfg.Fork, p.start; fork != nil {
		p.start = func(cmd *exec.Cmd) (local.Process, error) { return fork(cmd, otherwise) }
	}

	ctx, stop := context.WithCancel(soft)
	defer stop()
	p.stop, p.failed = stop, make(chan error, 1)
	var wg sync.WaitGroup

	keep := func(slot, limit int) {
		s := supervisor{pool: p, src: p.src, slot: p.cfg.FirstSlot + slot, limit: limit}
		wg.Go(func() {
			if err := recoverpanic.Do(func() error { return s.run(ctx, hard) }); err != nil {
				p.fail(err)
			}
		})
	}
	wg.Go(func() { p.safe(func() { p.restartLoop(ctx) }) })
	wg.Go(func() { p.safe(func() { p.recycleLoop(ctx) }) })
	// One child first: its concurrency determines how many children are needed.
	keep(0, p.cfg.Slots)
	if p.cfg.Concurrency > 0 {
		p.sized <- p.cfg.Concurrency
	}
	select {
	case each := <-p.sized:
		slots := (p.cfg.Slots + each - 1) / each
		p.crashLoop.setSlots(slots)
		for slot := 1; slot < slots; slot++ {
			keep(slot, min(each, p.cfg.Slots-slot*each))
		}
		wg.Go(func() { p.safe(func() { p.runExtra(ctx, hard, p.cfg.FirstSlot+slots, each) }) })
	case <-ctx.Done():
	}
	wg.Wait()
	p.aside.Wait()
	p.sweep()
	p.requests.Wait() // the tasks have ended, so that their requests end too
	select {
	case err := <-p.failed:
		return err
	default:
		return nil
	}
}

// safe runs f on a goroutine of the pool. After a panic the pool stops as it does when
// soft ends, and Run returns the panic, so that the later stages still report and
// return what they can.
func (p *Pool) safe(f func()) {
	if err := recoverpanic.Do(func() error { f(); return nil }); err != nil {
		p.fail(err)
	}
}

// fail ends Run with an error; only the first error is kept.
func (p *Pool) fail(err error) {
	select {
	case p.failed <- err:
	default:
	}
	p.stop()
}

// track records a process that was started, so that sweep finds it.
func (p *Pool) track(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for other := range p.live {
		if other.detached.Load() {
			delete(p.live, other)
		}
	}
	p.live[c] = struct{}{}
}

func (p *Pool) addServing(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.children[c] = struct{}{}
}

func (p *Pool) removeServing(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.children, c)
}

// Up returns the number of children that have initialized and serve.
func (p *Pool) Up() int { return int(p.up.Load()) }

// Slots returns a snapshot of every child that serves, ordered by slot.
func (p *Pool) Slots() []worker.Slot {
	p.mu.Lock()
	list := make([]worker.Slot, 0, len(p.children))
	for c := range p.children {
		list = append(list, c.status())
	}
	p.mu.Unlock()
	slices.SortFunc(list, func(a, b worker.Slot) int {
		return cmp.Or(cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.Pid, b.Pid))
	})
	return list
}

// noteWaiting adds n to the number of running tasks that only wait for others.
func (p *Pool) noteWaiting(n int) {
	p.waiting.Add(int64(n))
	notify(p.extraChanged)
}

// extraIdle is how long a child of an extra slot is kept when no extra slot is in use.
// Nested groups come in series, one for each task of the outer group, and a worker that
// imports its libraries takes seconds to start; after a while without use its memory is
// worth more.
const extraIdle = 30 * time.Second

// extraChildren returns the number of children that the extra slots need.
func (p *Pool) extraChildren(each int) int {
	slots := min(int(p.waiting.Load()), p.cfg.MaxExtra)
	return (max(slots, 0) + each - 1) / each
}

// runExtra runs children for extra slots until ctx ends: a task that waits for tasks
// that need slots would otherwise deadlock if it has the only one. The children run any
// task. The source bounds the running tasks by the free and the extra slots, so that no
// child loses its slot when a task resumes. The first child gets the given slot number;
// each runs as many tasks as any other child.
func (p *Pool) runExtra(ctx, hard context.Context, slot, each int) {
	var extra []context.CancelFunc
	defer func() {
		for _, end := range extra {
			end()
		}
	}()
	grow := func(n int) {
		for len(extra) < n {
			own, end := context.WithCancel(ctx)
			s := supervisor{pool: p, src: p.src, slot: slot + len(extra), role: roleExtra, limit: each}
			p.cfg.Log.Debug("worker started for an extra slot", "slot", s.slot)
			p.aside.Go(func() { p.safe(func() { _ = s.run(own, hard) }) })
			extra = append(extra, end)
		}
	}
	shrink := func(n int) {
		for _, end := range slices.Backward(extra[n:]) {
			end()
		}
		extra = extra[:n]
	}
	idle := time.NewTimer(extraIdle)
	defer idle.Stop()
	most := 0 // maximum needed at once since idle was started
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.extraChanged:
			n := p.extraChildren(each)
			most = max(most, n)
			grow(n)
		case <-idle.C:
			shrink(min(most, len(extra)))
			most = p.extraChildren(each)
			idle.Reset(extraIdle)
		}
	}
}

// Evict ends every task of a run that has lost its lease, because another sidecar runs
// its records. It cancels the tasks, and replaces children that do not end them. It
// returns when none of the tasks runs any more; none starts later, including those on
// their way from the queue to a child.
func (p *Pool) Evict(run string) {
	p.evicted.Store(&run)
	p.mu.Lock()
	var wg sync.WaitGroup
	for c := range p.children {
		wg.Go(func() { p.safe(c.evict) })
	}
	p.mu.Unlock()
	wg.Wait()
}

// isEvicted reports whether a task belongs to the run that was evicted last. A child
// calls it under the lock under which it starts tasks, so that either isEvicted returns
// true or evict finds the task.
func (p *Pool) isEvicted(t *task.Task) bool {
	run := p.evicted.Load()
	return run != nil && strings.HasPrefix(t.Delivery, *run+".")
}

// CrashLoop reports whether the pool is in a crash loop, see [CrashLoopError]. Such a
// pool goes on starting workers.
func (p *Pool) CrashLoop() bool { return p.crashLoop.isLooping() }

// sweep ends the processes whose supervisors panicked. Their tasks stay in flight and
// are requeued when the lease ends. It may be called only when all supervisors have
// returned.
func (p *Pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.live {
		if c.detached.Load() {
			continue
		}
		c.out.close()
		c.proc.Signal(syscall.SIGKILL)
		<-c.proc.Exited()
		c.detach()
		c.endAllRequests()
		select {
		case <-c.over:
		default:
			close(c.over)
		}
	}
	clear(p.live)
	clear(p.children)
}
