package exec

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	osexec "os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// tryAgain is EX_TEMPFAIL of sysexits.h, the exit status with which mail programs ask
// for another attempt.
const tryAgain = 75

// job is one running task.
type job struct {
	task  task.Task
	slot  int
	began time.Time
	pid   atomic.Int64

	evict func()        // requests its end; may be called more than once
	asked chan struct{} // closed by evict
	over  chan struct{} // closed when it has ended
}

func newJob(t task.Task, slot int) *job {
	j := &job{task: t, slot: slot, began: time.Now(), asked: make(chan struct{}), over: make(chan struct{})}
	j.evict = sync.OnceFunc(func() { close(j.asked) })
	return j
}

func (j *job) attrs() []any {
	return append(j.task.LogAttrs(), "slot", j.slot, "pid", j.pid.Load())
}

// run runs one task to its end. The error is that of a process that could not be
// started; the outcome then returns the task. With errHalted there is no outcome.
func (s *Stage) run(hard context.Context, slot int, t task.Task) (task.Outcome, error) {
	j := newJob(t, slot)
	if !s.addJob(j) {
		return j.outcome(task.Outcome{Conclusion: task.Returned, Message: leaseLost}), nil
	}
	defer s.removeJob(j)
	limit := t.Limit(s.cfg.TaskTimeout)
	env, problem := s.environ(&t, slot, j.began, limit)
	if problem != "" {
		return j.outcome(task.Outcome{Conclusion: task.Failed, Reason: "invalid", Message: problem}), nil
	}
	cmd := osexec.Cmd{Path: *s.path.Load(), Args: s.cfg.Command, Dir: s.cfg.Dir, Env: env, ExtraFiles: s.cfg.Files}
	p, err := s.spawn(&cmd)
	if errors.Is(err, errHalted) {
		return task.Outcome{}, err
	}
	if err != nil {
		return j.outcome(task.Outcome{Conclusion: task.Returned, Message: notStarted}), err
	}
	s.started.Store(true)
	j.pid.Store(int64(p.Pid()))
	st := s.attach(j, p)
	defer st.close() // also after a panic
	why := s.await(hard, j, p, st, limit)
	st.close()
	if why == byItself && local.IsBusy(p, st.tail.Last()) {
		// A script of env or of a shell whose program is being replaced.
		return j.outcome(task.Outcome{Conclusion: task.Returned, Message: notStarted}), syscall.ETXTBSY
	}
	if max(st.stdout.seen, st.stderr.seen) >= pipeCapacity {
		s.eagerRead.Store(true)
	}
	return j.outcome(s.judge(j, p, st, why, limit)), nil
}

const notStarted = "its process could not be started"

// errHalted reports that the task was not started because a stop has begun.
var errHalted = errors.New("execute: halted")

// spawn starts a process, unless a stop has begun. Only as many callers as there are
// spawner threads pass the check at once: with many slots, the last ones would
// otherwise start their processes long after the shutdown signal.
func (s *Stage) spawn(cmd *osexec.Cmd) (local.Process, error) {
	s.begin <- struct{}{}
	defer func() { <-s.begin }()
	if s.src.Halted() {
		return nil, errHalted
	}
	return s.start(cmd)
}

// environ returns the environment of a task's process, or the reason why an environment
// cannot hold the record.
func (s *Stage) environ(t *task.Task, slot int, began time.Time, limit time.Duration) (env []string, problem string) {
	env = make([]string, 0, len(s.env)+len(taskVariables))
	env = append(env, s.env...)
	for _, v := range [...]struct{ name, field, value string }{
		{"SIDECAR_TASK_ID", "task_id", t.Info.TaskID},
		{"SIDECAR_SESSION_ID", "session_id", t.Info.SessionID},
		{"SIDECAR_GROUP_ID", "group_id", t.Info.GroupID},
	} {
		switch {
		case strings.IndexByte(v.value, 0) >= 0:
			return nil, fmt.Sprintf("the record's %s holds a NUL, which no environment variable can", v.field)
		case len(v.value) > longestVariable:
			return nil, fmt.Sprintf("the record's %s has %d bytes, and an environment variable may have %d", v.field, len(v.value), longestVariable)
		}
		env = append(env, v.name+"="+v.value)
	}
	env = append(env,
		"SIDECAR_ATTEMPT="+strconv.Itoa(t.Attempt),
		"SIDECAR_PROCESS_ID="+s.cfg.WorkerID+"-"+strconv.Itoa(slot)+"-"+rand.Text()[:10])
	if limit > 0 {
		env = append(env, "SIDECAR_DEADLINE="+strconv.FormatInt(began.Add(limit).UnixMilli(), 10))
	}
	if parent := t.Traceparent(); parent != "" {
		env = append(env, "TRACEPARENT="+parent)
	}
	return env, ""
}

// attach writes the record to the process and collects its output.
func (s *Stage) attach(j *job, p local.Process) *streams {
	st := &streams{
		p: p, tooLong: make(chan struct{}), stdout: &pipeEnd{pipe: p.Stdout()}, stderr: &pipeEnd{pipe: p.Stderr()},
		fed: make(chan struct{}), read1: make(chan struct{}), read2: make(chan struct{}),
	}
	collect := func() {
		defer close(st.read1)
		s.safe(func() { st.collect(s.cfg.MaxOutput) })
	}
	log := func() {
		defer close(st.read2)
		s.safe(func() { local.LogLines(st.stderr, s.cfg.Log, "worker stderr", &st.tail, j.attrs) })
	}
	begin := func() {
		go collect()
		go log()
	}
	if _, ok := p.Stdout().(local.NowReader); ok && !s.eagerRead.Load() {
		st.late = time.AfterFunc(readersAfter, begin)
		st.readNow = func() {
			st.stdout.drainNow()
			collect()
			st.stderr.drainNow()
			log()
		}
	} else {
		begin()
	}
	go func() {
		defer close(st.fed)
		feed(p, j.task.Record)
	}()
	return st
}

func (j *job) outcome(o task.Outcome) task.Outcome {
	o.Task, o.StartedAt, o.EndedAt = j.task, j.began, time.Now()
	o.Slot, o.PID = j.slot, int(j.pid.Load())
	return o
}

// cause is the reason why the sidecar ended a process.
type cause int

const (
	byItself cause = iota
	expired        // the task was past its deadline
	evicted        // the lease of its run was lost
	cutShort       // the hard end of a stop
	flooded        // the output exceeds the limit of a result
)

const leaseLost = "its lease was lost"

// await waits for the process to end, and ends it at its deadline, an eviction or a
// stop. It returns when the process group is dead.
func (s *Stage) await(hard context.Context, j *job, p local.Process, st *streams, limit time.Duration) cause {
	var deadline <-chan time.Time
	if limit > 0 {
		timer := time.NewTimer(time.Until(j.began.Add(limit)))
		defer timer.Stop()
		deadline = timer.C
	}
	var why cause
	select {
	case <-p.Exited():
		return byItself
	case <-deadline:
		why = expired
		s.cfg.Log.Warn("task is past its deadline: ended", j.attrs()...)
	case <-j.asked:
		why = evicted
	case <-hard.Done():
		why = cutShort
	case <-st.tooLong:
		why = flooded
	}
	select {
	case <-p.Exited(): // at the same time
		return byItself
	default:
	}
	local.End(hard, p, nil, s.cfg.KillGrace)
	return why
}

// judge returns the outcome of a task whose process has ended.
//
// After the sidecar's SIGTERM neither the output nor a status of 0 counts: most
// programs exit with 0 after a clean end on a signal, which cannot be told from a task
// that was completed at that moment. The task runs again, or is reported as timed out.
func (s *Stage) judge(j *job, p local.Process, st *streams, why cause, limit time.Duration) task.Outcome {
	switch why {
	case expired:
		return task.Outcome{
			Conclusion: task.Failed, Reason: "timeout",
			Message: fmt.Sprintf("Task execution timeout: it ran longer than %v", limit),
		}
	case evicted:
		return task.Outcome{Conclusion: task.Returned, Message: leaseLost}
	case cutShort:
		return task.Outcome{Conclusion: task.Returned, Message: "cut short"}
	case flooded:
		return s.tooMuch()
	}
	end := local.EndingOf(p)
	exit := end.Exit()
	switch {
	case end.Code < 0:
		// A signal that the sidecar did not send: a crash, or the OOM killer. It is the
		// death of a worker, which uses an attempt.
		return task.Outcome{Conclusion: task.Lost, Message: "the worker " + p.Fate(), Stderr: st.tail.Text(), Exit: exit}
	case end.Code == tryAgain:
		return task.Outcome{Conclusion: task.Retry, Reason: "exit", Message: errorMessage(st.tail.Text(), p.Fate()), Stderr: st.tail.Text(), Exit: exit}
	case end.Code != 0:
		return task.Outcome{Conclusion: task.Failed, Reason: "exit", Message: errorMessage(st.tail.Text(), p.Fate()), Exit: exit}
	case st.overlong():
		return s.tooMuch()
	}
	value, err := s.cfg.Output.value(st.out)
	if err != nil {
		return task.Outcome{Conclusion: task.Failed, Reason: "output", Message: err.Error()}
	}
	return task.Outcome{Conclusion: task.Succeeded, Value: value}
}

func (s *Stage) tooMuch() task.Outcome {
	return task.Outcome{
		Conclusion: task.Failed, Reason: "output",
		Message: fmt.Sprintf("the task printed more than %d bytes on its stdout, the longest result (SIDECAR_MAX_MESSAGE_BYTES)", s.cfg.MaxOutput),
	}
}

// kill ends a process that a panic left behind.
func kill(p local.Process) {
	p.Signal(syscall.SIGKILL)
	<-p.Exited()
}
