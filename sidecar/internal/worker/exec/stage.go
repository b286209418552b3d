// Package exec runs tasks in processes of their own, one for each: the
// record is on its stdin, what it prints is the result, and how it exits says
// how it went. Any executable is a worker; docs/modes.md has the contract.
package exec

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// Source supplies tasks. *dispatch.Lane implements it.
type Source interface {
	// AddCapacity adds n slots, or removes slots for a negative n.
	AddCapacity(n int)
	// Acquire waits for up to limit tasks.
	Acquire(ctx context.Context, limit int) ([]task.Task, error)
	// Return returns acquired tasks that were not started.
	Return(ts []task.Task)
	// Release frees the slot of a task that has ended.
	Release(p task.SlotState)
	// Halted reports whether nothing more is to be started.
	Halted() bool
}

// Sink receives the outcomes. Add must not block, and must work as long as any process
// lives.
type Sink interface {
	Add(o task.Outcome)
}

// Config says what to run and how patient to be. Every duration but
// TaskTimeout is required.
type Config struct {
	Command []string
	Name    string // for people; the command if empty
	Dir     string
	Env     []string   // complete but for what a task adds
	Extra   []*os.File // handed down as file descriptors 3, 4 …

	Slots       int // processes at once
	FirstSlot   int // number of the first slot
	WorkerID    string
	TaskTimeout time.Duration // of one run; 0 means none

	StartRetries int            // after the first failure, for a command that never started
	Restart      backoff.Policy // pause of a slot whose process could not be started
	KillGrace    time.Duration  // between SIGTERM and SIGKILL
	MaxOutput    int            // longest output, in bytes
	Output       Output         // what it is; OutputText if empty

	// Start is for tests; nil starts real processes.
	Start local.Start

	Log *slog.Logger
}

// Stage runs the tasks. Its methods may be called concurrently, Run once.
type Stage struct {
	cfg     Config
	src     Source
	sink    Sink
	env     []string    // Config.Env without what a task sets
	start   local.Start // set by Run, as the next two are
	stop    func()      // ends Run as its soft context would
	failed  chan error  // why
	path    atomic.Pointer[string]
	started atomic.Bool // a process was started once
	up      atomic.Int64

	eagerRead atomic.Bool // a task has said more than a pipe holds

	begin   chan struct{}          // holds a token for each start under way
	evicted atomic.Pointer[string] // the run that lost its lease last

	mu   sync.Mutex
	jobs map[*job]struct{} // that run now
	said time.Time         // when a start that failed was last in the log
}

// New prepares a stage; nothing runs before Run.
func New(cfg Config, src Source, sink Sink) *Stage {
	if cfg.Name == "" {
		cfg.Name = strings.Join(cfg.Command, " ")
	}
	return &Stage{
		cfg: cfg, src: src, sink: sink, env: without(cfg.Env, perTask),
		begin: make(chan struct{}, spawners), jobs: make(map[*job]struct{}),
	}
}

// spawners is how many threads start processes: with one, a busy machine starts
// half as many tasks a second, and more than a few only wait for each other (Go
// forks one at a time).
const spawners = 3

// Run looks for the command, and then runs tasks until soft ends; what runs is
// finished. When hard ends too it is killed and given back through the sink.
// Run returns when no process is left: nil after a stop, a StartError where the
// command could never be started.
func (s *Stage) Run(soft, hard context.Context) error {
	s.start = s.cfg.Start
	if s.start == nil {
		spawner := local.NewSpawnerOf(min(s.cfg.Slots, spawners))
		defer spawner.Stop()
		s.start = spawner.Start
	}
	ctx, stop := context.WithCancel(soft)
	defer stop()
	s.stop, s.failed = stop, make(chan error, 1)
	if err := s.find(ctx); err != nil {
		return err
	}
	var wg sync.WaitGroup
	for slot := range s.cfg.Slots {
		wg.Go(func() { s.safe(func() { s.serve(ctx, hard, s.cfg.FirstSlot+slot) }) })
	}
	wg.Wait()
	select {
	case err := <-s.failed:
		return err
	default:
		return nil
	}
}

// safe runs f, on a goroutine of the stage. A panic in it is a bug of ours: the
// stage then stops as if it had been asked to, and Run returns the panic.
func (s *Stage) safe(f func()) {
	if err := recoverpanic.Do(func() error { f(); return nil }); err != nil {
		s.fail(err)
	}
}

// fail ends Run with an error; the first one counts.
func (s *Stage) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
	s.stop()
}

// Up is how many slots can start a process.
func (s *Stage) Up() int { return int(s.up.Load()) }

// Restart has nothing to do: the next task has a new process anyway.
func (s *Stage) Restart() {
	s.cfg.Log.Info("nothing to replace: each task has a process of its own")
}

// Evict ends every task of a run whose lease was lost: another sidecar runs them.
// It returns when none of them is running any more. None is started later.
func (s *Stage) Evict(run string) {
	s.evicted.Store(&run)
	s.mu.Lock()
	var theirs []*job
	for j := range s.jobs {
		if s.isEvicted(&j.task) {
			theirs = append(theirs, j)
		}
	}
	s.mu.Unlock()
	for _, j := range theirs {
		j.evict()
	}
	for _, j := range theirs {
		<-j.over
	}
}

func (s *Stage) isEvicted(t *task.Task) bool {
	run := s.evicted.Load()
	return run != nil && strings.HasPrefix(t.Delivery, *run+".")
}

// enlist enters a job, unless its run was evicted. It is asked under the lock
// under which Evict looks: either this sees the eviction or Evict sees the job.
func (s *Stage) enlist(j *job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isEvicted(&j.task) {
		return false
	}
	s.jobs[j] = struct{}{}
	return true
}

func (s *Stage) discharge(j *job) {
	s.mu.Lock()
	delete(s.jobs, j)
	s.mu.Unlock()
	close(j.over)
}

// Slots is a snapshot of every task that runs, by slot: a slot without one has no
// process. The process id is 0 while it is being started.
func (s *Stage) Slots() []worker.Slot {
	s.mu.Lock()
	list := make([]worker.Slot, 0, len(s.jobs))
	for j := range s.jobs {
		list = append(list, worker.Slot{Slot: j.slot, Pid: int(j.pid.Load()), Concurrency: 1, Tasks: []worker.Task{{
			TaskID: j.task.Info.TaskID, SessionID: j.task.Info.SessionID, GroupID: j.task.Info.GroupID,
			Delivery: j.task.Delivery, Attempt: j.task.Attempt, Started: j.began,
		}}})
	}
	s.mu.Unlock()
	slices.SortFunc(list, func(a, b worker.Slot) int { return cmp.Compare(a.Slot, b.Slot) })
	return list
}

// CrashLoop is never so: a process that dies is its task's affair.
func (*Stage) CrashLoop() bool { return false }

// RestartSlot has nothing to replace: each task has a process of its own.
func (*Stage) RestartSlot(int) bool { return false }
