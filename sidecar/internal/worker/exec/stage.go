// Package exec runs tasks in processes of their own, one for each: the
// record is on its stdin, what it prints is the result, and how it exits says
// how it went. Any executable is a worker; docs/modes.md has the contract.
package exec

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	osexec "os/exec"
	"path/filepath"
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
	Files   []*os.File // handed down as file descriptors 3, 4 …

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

// find looks for the command before anything is claimed. It returns nil when
// ctx ends.
func (s *Stage) find(ctx context.Context) error {
	pause := backoff.New(s.cfg.Restart)
	tries := local.Tries{Limit: s.cfg.StartRetries}
	for {
		err := s.resolve()
		if err == nil {
			s.cfg.Log.Info("a process for each task", "command", *s.path.Load(), "at_once", s.cfg.Slots)
			return nil
		}
		if tries.Failed(err) {
			return s.startError(err, pause)
		}
		s.cfg.Log.Warn("command cannot be run, trying again", "error", local.StartReason(err))
		if !pause.Sleep(ctx) {
			return nil
		}
	}
}

// resolve finds the command's file, and leaves the path as it was where it
// finds none.
func (s *Stage) resolve() error {
	name := s.cfg.Command[0]
	seen := name
	if s.cfg.Dir != "" && strings.ContainsRune(name, filepath.Separator) && !filepath.IsAbs(name) {
		seen = s.cfg.Dir + "/" + name // a process is started from its working directory
	}
	path, err := osexec.LookPath(seen)
	if err != nil {
		return err
	}
	if s.cfg.Start == nil { // and so a real one
		if err := local.CheckCommand(path, "", s.cfg.Env); err != nil {
			return err
		}
	}
	if seen != name {
		path = name
	}
	s.path.Store(&path)
	return nil
}

func (s *Stage) startError(err error, pause *backoff.Backoff) error {
	return &local.StartError{Worker: s.cfg.Name, Reason: local.StartReason(err), Attempts: pause.Failures() + 1, Err: err}
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

// serve is one slot: it takes a task, runs it to its end, and takes the next,
// until ctx ends or the source closes.
//
// Where the process cannot be started (the file is gone, there is no memory),
// the task goes back at no cost, and the slot counts for nothing during a
// pause: another sidecar may claim what this slot cannot run. The same holds when
// the stage ends by itself and the claim stage does not know it yet: a record
// that was claimed for a slot that is being cleared would go back after older
// records, and so before them.
func (s *Stage) serve(ctx, hard context.Context, slot int) {
	pause := backoff.New(s.cfg.Restart)
	tries := local.Tries{Limit: s.cfg.StartRetries}
	s.open(1)
	isOpen := true
	defer func() {
		if isOpen {
			s.open(-1)
		}
	}()
	for ctx.Err() == nil {
		ts, err := s.src.Acquire(ctx, 1)
		if err != nil {
			return
		}
		o, err := s.run(hard, slot, ts[0])
		if errors.Is(err, errHalted) {
			s.src.Return(ts)
			return
		}
		if err == nil && ctx.Err() == nil {
			pause.Reset()
			tries.Reset()
			s.finish(o)
			continue
		}
		s.open(-1)
		isOpen = false
		s.finish(o)
		if err == nil {
			return
		}
		if tries.Failed(err) && !s.started.Load() {
			s.fail(s.startError(err, pause))
		} else {
			s.complain(slot, err)
		}
		pause.Sleep(ctx)
		if ctx.Err() != nil {
			return
		}
		_ = s.resolve() // it may have moved
		s.open(1)
		isOpen = true
	}
}

func (s *Stage) open(n int) {
	s.up.Add(int64(n))
	s.src.AddCapacity(n)
}

// finish hands a task's outcome on, and then frees its slot: in this order, so
// that the slots in use never hide a task that is nowhere.
func (s *Stage) finish(o task.Outcome) {
	s.sink.Add(o)
	s.src.Release(o.Task.SlotState())
}

// complainEvery keeps a machine with thousands of slots and no memory from
// saying so thousands of times.
const complainEvery = 10 * time.Second

func (s *Stage) complain(slot int, err error) {
	s.mu.Lock()
	quiet := !s.said.IsZero() && time.Since(s.said) < complainEvery
	if !quiet {
		s.said = time.Now()
	}
	s.mu.Unlock()
	if !quiet {
		s.cfg.Log.Warn("process cannot be started: tasks go back to the queue", "slot", slot, "error", local.StartReason(err))
	}
}

// Up is how many slots can start a process.
func (s *Stage) Up() int { return int(s.up.Load()) }

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

// CrashLoop is never so: a process that dies is its task's affair.
func (*Stage) CrashLoop() bool { return false }

// RestartSlot has nothing to replace: each task has a process of its own.
func (*Stage) RestartSlot(int) bool { return false }
