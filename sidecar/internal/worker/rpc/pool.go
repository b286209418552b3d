// Package rpc runs worker processes and hands them tasks over the worker
// protocol (protocol/PROTOCOL.md). A Pool keeps as many children as the wanted
// slots need; each child has a keeper that starts it, feeds it and replaces it.
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

// Config says what to run and how patient to be. Every duration is required.
type Config struct {
	Command []string
	Name    string // of the worker, for people; the command if empty
	Dir     string
	Env     []string   // complete
	Extra   []*os.File // handed down as file descriptors 3, 4 …
	// Renewed, if set, gives each new child variables that replace those of Env: their
	// values may have been changed since. It may be called concurrently.
	Renewed func() []string

	// Concurrency is what the worker will declare, if that is known before it
	// has said so: then all children start at once and not after the first.
	Concurrency int
	Slots       int // tasks at once over all children
	FirstSlot   int // number of the first child's slot
	WorkerID    string
	Version     string        // our own
	TaskTimeout time.Duration // of one run; 0 means none

	StartTimeout    time.Duration
	StartRetries    int            // after the first failure, for a worker that never started
	Restart         backoff.Policy // pause before a restart, with full jitter
	PingInterval    time.Duration
	PingTimeout     time.Duration // an idle child that is silent for longer is replaced
	WriteTimeout    time.Duration // a child that reads nothing for longer is replaced
	KillGrace       time.Duration // between the steps of the kill ladder
	MaxMessageBytes int

	// Fork, if set, makes a child in a better way than otherwise would, or else
	// by otherwise.
	Fork func(cmd *exec.Cmd, otherwise local.Start) (local.Process, error)
	// Remote, if set, starts every child in another container, and Command, Dir,
	// Env, Extra and Fork mean nothing. It waits until a host has connected that
	// runs the child with the given process id.
	Remote func(ctx context.Context, id string) (local.Process, error)
	// CrashLoopExit ends Run with a *CrashLoopError when every slot's worker
	// keeps dying; without it, CrashLoop says so and the pool goes on.
	CrashLoopExit bool

	// These bound what one child is used for; 0 means no bound. Chance takes up
	// to a fifth off, for each child anew.
	MaxTasksPerChild int
	MaxChildAge      time.Duration
	MaxChildRSS      int64 // bytes

	MaxLent int // slots of waiting tasks that are lent at the same time

	// Replaced, if set, is told of every worker process that another one takes
	// the place of: crash, fault (it was ended for what it did), start (it never
	// began to serve), recycled. Misbehaved is told of every breach of the
	// protocol: print, malformed, too_long, stray. Neither may block.
	Replaced, Misbehaved func(what string)

	// Requests serves what workers ask; nil refuses it all (P13).
	Requests Requests
	// Start and Resident are for tests; nil starts real processes, and measures
	// their memory.
	Start    local.Start
	Resident func(pid int) (int64, error)

	Log *slog.Logger
}

// healthyAfter is how long a child must have lived for its next restart to be
// quick again.
const healthyAfter = time.Minute

// Pool owns the children.
type Pool struct {
	cfg     Config
	src     Source
	sink    Sink
	start   local.Start // set by Run, as the next two are
	stop    func()      // ends Run as its soft context would
	failed  chan error  // why
	started atomic.Bool // some child has initialized once
	up      atomic.Int64

	aside        sync.WaitGroup // what goes on beside the slots: see runLone, runExtra, serve
	requests     sync.WaitGroup // requests that are being served
	sized        chan int       // the first child's declared concurrency
	renew        chan struct{}  // one token, see Restart
	renewAt      chan int       // slots, see RestartSlot
	recycleCheck chan struct{}  // one token: a child may have to be recycled, see recycleLoop
	extraChanged chan struct{}  // one token: waiting has changed, see runExtra
	waiting      atomic.Int64   // running tasks that only wait
	crashes      crashes
	quits        quits

	evicted atomic.Pointer[string] // the run that lost its lease last

	mu       sync.Mutex
	children map[*child]struct{} // that serve now
	live     map[*child]struct{} // whose process may be there, see sweep
}

// New prepares a pool; nothing runs before Run.
func New(cfg Config, src Source, sink Sink) *Pool {
	if cfg.Name == "" {
		cfg.Name = strings.Join(cfg.Command, " ")
	}
	// Full jitter: a child's restart burdens this machine only, where the restarts
	// of many that died at once are best spread all over the pause.
	cfg.Restart.Full = true
	return &Pool{
		cfg: cfg, src: src, sink: sink, crashes: crashes{row: make(map[int]int)},
		sized: make(chan int, 1), renew: make(chan struct{}, 1), renewAt: make(chan int, 8), recycleCheck: make(chan struct{}, 1), extraChanged: make(chan struct{}, 1),
		children: make(map[*child]struct{}), live: make(map[*child]struct{}),
	}
}

// Run starts the children and keeps them until soft ends; then they take
// nothing more and finish what they have. When hard ends too they are killed
// and what they held is given back through the sink. Run returns when every
// child is gone: nil after a stop, a StartError when no child could ever be
// started, a CrashLoopError if the configuration wants it.
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
		k := keeper{pool: p, src: p.src, slot: p.cfg.FirstSlot + slot, limit: limit}
		wg.Go(func() {
			if err := recoverpanic.Do(func() error { return k.run(ctx, hard) }); err != nil {
				p.fail(err)
			}
		})
	}
	wg.Go(func() { p.safe(func() { p.renewals(ctx) }) })
	wg.Go(func() { p.safe(func() { p.recycleLoop(ctx) }) })
	// One child first: how much it takes at once says how many are needed.
	keep(0, p.cfg.Slots)
	if p.cfg.Concurrency > 0 {
		p.sized <- p.cfg.Concurrency
	}
	select {
	case each := <-p.sized:
		slots := (p.cfg.Slots + each - 1) / each
		p.crashes.count(slots)
		for slot := 1; slot < slots; slot++ {
			keep(slot, min(each, p.cfg.Slots-slot*each))
		}
		wg.Go(func() { p.safe(func() { p.runExtra(ctx, hard, p.cfg.FirstSlot+slots, each) }) })
	case <-ctx.Done():
	}
	wg.Wait()
	p.aside.Wait()
	p.sweep()
	p.requests.Wait() // their tasks have ended, and so do they
	select {
	case err := <-p.failed:
		return err
	default:
		return nil
	}
}

// safe runs f, on a goroutine of the pool. A panic in it is a bug of ours: the
// stage then stops as if it had been asked to, and Run returns the panic, so
// that the stages after it still report and hand back what they can.
func (p *Pool) safe(f func()) {
	if err := recoverpanic.Do(func() error { f(); return nil }); err != nil {
		p.fail(err)
	}
}

// fail ends Run with an error; the first one counts.
func (p *Pool) fail(err error) {
	select {
	case p.failed <- err:
	default:
	}
	p.stop()
}

// born notes a process that was started, so that sweep finds it.
func (p *Pool) born(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for other := range p.live {
		if other.detached.Load() {
			delete(p.live, other)
		}
	}
	p.live[c] = struct{}{}
}

func (p *Pool) enlist(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.children[c] = struct{}{}
}

func (p *Pool) discharge(c *child) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.children, c)
}

// Up is how many children are initialized and serving.
func (p *Pool) Up() int { return int(p.up.Load()) }

// Slots is a snapshot of every child that serves, by slot.
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

// noteWaiting notes that n more (or fewer) running tasks only wait for others.
func (p *Pool) noteWaiting(n int) {
	p.waiting.Add(int64(n))
	notify(p.extraChanged)
}

// extraIdle is how long a child that was started for a lent slot is kept when no
// slot is lent any more. Nested groups come in series, one for each task of the
// group around them, and a worker that imports its libraries first takes seconds
// to start; after a while without any, its memory is worth more.
const extraIdle = 30 * time.Second

// extraChildren is how many children the lent slots need.
func (p *Pool) extraChildren(each int) int {
	lent := min(int(p.waiting.Load()), p.cfg.MaxLent)
	return (max(lent, 0) + each - 1) / each
}

// runExtra keeps children for the slots whose tasks only wait, until ctx ends: a
// task that waits for tasks that need slots would otherwise deadlock where it has
// the only one. They are children like all others, and run any task. The source
// bounds the tasks that run by the slots that are free or lent, so that no child
// loses its slot when a task resumes. The first of them gets the slot number
// given; each runs as many tasks as any other.
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
			k := keeper{pool: p, src: p.src, slot: slot + len(extra), kind: kindExtra, limit: each}
			p.cfg.Log.Debug("worker started for an extra slot", "slot", k.slot)
			p.aside.Go(func() { p.safe(func() { _ = k.run(own, hard) }) })
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
	most := 0 // needed at once since idle was started
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

// Evict ends every task of a run: cancelled, and where that is not enough the
// child is replaced. It returns when none of them is running any more, and none
// is started later, not even one that is on its way from the queue to a child.
// Their lease was lost, so that another sidecar runs them.
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

// isEvicted reports whether a task belongs to the run that was evicted last. A
// child asks under the lock under which it starts tasks, so that either it sees
// the answer or evict sees the task.
func (p *Pool) isEvicted(t *task.Task) bool {
	run := p.evicted.Load()
	return run != nil && strings.HasPrefix(t.Delivery, *run+".")
}

// CrashLoop reports whether every slot's worker keeps dying: see
// [CrashLoopError] for what that means. A pool that is in one goes on trying.
func (p *Pool) CrashLoop() bool { return p.crashes.looping() }

// sweep ends the processes whose keepers panicked. What they held stays in
// flight and goes back with the lease. Only when all keepers have returned.
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
