package exec

import (
	"context"
	"errors"
	osexec "os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

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
