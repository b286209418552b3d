// Package exec runs each task in a process of its own: the record is on its stdin, its
// stdout is the result, and its exit status says how the task ended. Any executable is
// a worker; docs/modes.md has the contract.
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
	// Halted reports whether a stop has begun: no more tasks may be started.
	Halted() bool
}

// Sink receives the outcomes. Add must not block, and must work as long as any process
// lives.
type Sink interface {
	Add(o task.Outcome)
}

// Config is the configuration of a Stage. Every duration except TaskTimeout is
// required.
type Config struct {
	Command []string
	Name    string // the worker's name in messages; the command if empty
	Dir     string
	Env     []string   // complete except for the variables of the task
	Files   []*os.File // inherited as file descriptors 3, 4 …

	Slots       int // processes at once
	FirstSlot   int // number of the first slot
	WorkerID    string
	TaskTimeout time.Duration // of one task; 0 means none

	StartRetries int            // after the first failure, for a command that never started
	Restart      backoff.Policy // pause of a slot whose process could not be started
	KillGrace    time.Duration  // between SIGTERM and SIGKILL
	MaxOutput    int            // longest output, in bytes
	Output       Output         // its format; OutputText if empty

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
	start   local.Start // set by Run, like stop and failed
	stop    func()      // ends Run like the end of its soft context
	failed  chan error  // the error of Run
	path    atomic.Pointer[string]
	started atomic.Bool // a process has been started
	up      atomic.Int64

	eagerRead atomic.Bool // a task has written more than a pipe holds

	begin   chan struct{}          // a token for each start that is under way
	evicted atomic.Pointer[string] // the run that last lost its lease

	mu       sync.Mutex
	jobs     map[*job]struct{} // the running jobs
	loggedAt time.Time         // when a failed start was last logged
}

// New prepares a stage; nothing runs before Run.
func New(cfg Config, src Source, sink Sink) *Stage {
	if cfg.Name == "" {
		cfg.Name = strings.Join(cfg.Command, " ")
	}
	return &Stage{
		cfg: cfg, src: src, sink: sink, env: without(cfg.Env, taskVariables),
		begin: make(chan struct{}, spawners), jobs: make(map[*job]struct{}),
	}
}

// spawners is the number of threads that start processes. With one, a busy machine
// starts half as many tasks a second; more than a few only wait for each other, because
// Go forks one process at a time.
const spawners = 3

// Run finds the command and then runs tasks until soft ends; running tasks are
// finished. When hard ends too, they are killed and returned through the sink. Run
// returns when no process is left: nil after a stop, a StartError if the command could
// never be started.
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

// find finds the command before the first claim. It returns nil when ctx ends.
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

// resolve finds the file of the command. If it finds none, the path remains unchanged.
func (s *Stage) resolve() error {
	name := s.cfg.Command[0]
	seen := name
	if s.cfg.Dir != "" && strings.ContainsRune(name, filepath.Separator) && !filepath.IsAbs(name) {
		seen = s.cfg.Dir + "/" + name // relative to the working directory of the process
	}
	path, err := osexec.LookPath(seen)
	if err != nil {
		return err
	}
	if s.cfg.Start == nil { // a real process
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

// safe runs f on a goroutine of the stage. After a panic the stage stops as it does
// when soft ends, and Run returns the panic.
func (s *Stage) safe(f func()) {
	if err := recoverpanic.Do(func() error { f(); return nil }); err != nil {
		s.fail(err)
	}
}

// fail ends Run with an error; only the first error is kept.
func (s *Stage) fail(err error) {
	select {
	case s.failed <- err:
	default:
	}
	s.stop()
}

// serve is one slot: it acquires a task, runs it to its end, and acquires the next one,
// until ctx ends or the source closes.
//
// If the process cannot be started (the file is missing, or there is no memory), the
// task is returned without an attempt used, and the slot is not in the capacity during
// a pause, so that another sidecar may claim the record. The slot also leaves the
// capacity before the stage ends by itself: a record that was claimed for it would
// otherwise be returned after older records, and thus be placed before them.
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
			s.publish(o)
			continue
		}
		s.open(-1)
		isOpen = false
		s.publish(o)
		if err == nil {
			return
		}
		if tries.Failed(err) && !s.started.Load() {
			s.fail(s.startError(err, pause))
		} else {
			s.logStartFailure(slot, err)
		}
		pause.Sleep(ctx)
		if ctx.Err() != nil {
			return
		}
		_ = s.resolve() // the file may have moved
		s.open(1)
		isOpen = true
	}
}

func (s *Stage) open(n int) {
	s.up.Add(int64(n))
	s.src.AddCapacity(n)
}

// publish gives a task's outcome to the sink and then frees its slot. In this order the
// task is always counted, as running or as an outcome.
func (s *Stage) publish(o task.Outcome) {
	s.sink.Add(o)
	s.src.Release(o.Task.SlotState())
}

// startFailureInterval is the minimum time between two log lines about failed starts: a
// machine with thousands of slots and no memory would otherwise log thousands of lines.
const startFailureInterval = 10 * time.Second

func (s *Stage) logStartFailure(slot int, err error) {
	s.mu.Lock()
	quiet := !s.loggedAt.IsZero() && time.Since(s.loggedAt) < startFailureInterval
	if !quiet {
		s.loggedAt = time.Now()
	}
	s.mu.Unlock()
	if !quiet {
		s.cfg.Log.Warn("process cannot be started: tasks go back to the queue", "slot", slot, "error", local.StartReason(err))
	}
}

// Up returns the number of slots that can start a process.
func (s *Stage) Up() int { return int(s.up.Load()) }

// Slots returns a snapshot of every running task, ordered by slot. A slot without a
// task has no process. The process id is 0 while the process is being started.
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

// addJob adds a job, unless its run was evicted. It checks that under the lock of
// Evict, so that either addJob sees the eviction or Evict sees the job.
func (s *Stage) addJob(j *job) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.isEvicted(&j.task) {
		return false
	}
	s.jobs[j] = struct{}{}
	return true
}

func (s *Stage) removeJob(j *job) {
	s.mu.Lock()
	delete(s.jobs, j)
	s.mu.Unlock()
	close(j.over)
}

// Restart does nothing: each task has a new process anyway.
func (s *Stage) Restart() {
	s.cfg.Log.Info("nothing to replace: each task has a process of its own")
}

// Evict ends every task of a run that has lost its lease, because another sidecar runs
// its records. It returns when none of them runs any more; none starts later.
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

// CrashLoop is always false: the death of a process concerns its task only.
func (*Stage) CrashLoop() bool { return false }

// RestartSlot does nothing: each task has a process of its own.
func (*Stage) RestartSlot(int) bool { return false }
