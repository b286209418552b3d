//go:build simulation

package simulation

import (
	"context"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/history"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/simnet"
)

// process is a worker process: a goroutine behind pipes. It is a [local.Process].
type process struct {
	member *member
	pid    int
	born   time.Time

	stdin          *simnet.PipeWriter // the sidecar's ends
	stdout, stderr *simnet.PipeReader
	in             *simnet.PipeReader // the worker's ends
	out, errs      *simnet.PipeWriter

	ctx    context.Context // ends with the process
	cancel context.CancelFunc
	termed chan struct{} // closed by SIGTERM where the worker handles it
	terms  func()
	exited chan struct{}
	all    sync.WaitGroup // goroutines of the worker

	mu      sync.Mutex
	over    bool
	ending  local.Ending
	unread  int
	ignores bool            // SIGTERM and SIGINT
	running map[string]bool // tasks that it has begun and not answered
	leaving bool            // it ends once it runs no task
}

// Pid implements [local.Process], as the next methods do.
func (p *process) Pid() int                { return p.pid }
func (p *process) Stdin() local.WritePipe  { return p.stdin }
func (p *process) Stdout() local.ReadPipe  { return p.stdout }
func (p *process) Stderr() local.ReadPipe  { return p.stderr }
func (p *process) Exited() <-chan struct{} { return p.exited }

// Fate implements [local.Process].
func (p *process) Fate() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ending.Signal != 0 {
		return "was ended by " + p.ending.Signal.String()
	}
	return "exited"
}

// Ending says how the process ended.
func (p *process) Ending() local.Ending {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ending
}

// InputRead says how much of its stdin the process has read.
func (p *process) InputRead(written int64) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return written - int64(p.unread)
}

// Signal implements [local.Process].
func (p *process) Signal(sig syscall.Signal) {
	p.mu.Lock()
	ignores := p.ignores
	p.mu.Unlock()
	switch {
	case sig == syscall.SIGKILL:
		p.exit(local.Ending{Code: -1, Signal: sig})
	case ignores:
		p.terms()
	default:
		p.exit(local.Ending{Code: -1, Signal: sig})
	}
}

// exit ends the process, as the kernel does: its pipes end behind what it has written.
func (p *process) exit(how local.Ending) {
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return
	}
	p.over, p.ending, p.unread = true, how, p.in.Unread()
	tasks := make([]string, 0, len(p.running))
	for t := range p.running {
		tasks = append(tasks, t)
	}
	p.mu.Unlock()
	slices.Sort(tasks)
	// It may have ended a task whose answer does not reach the sidecar.
	p.member.world.note(history.Event{What: history.Exits, Pid: p.pid})
	for _, t := range tasks {
		p.member.world.interrupted(t)
		p.member.world.note(history.Event{What: history.Kills, Task: t, Pid: p.pid, Text: "its worker ended"})
	}
	_ = p.out.Close()
	_ = p.errs.Close()
	_ = p.in.Close()
	p.cancel()
	go func() {
		p.all.Wait()
		close(p.exited)
	}()
}

// begin and finish keep the tasks that the process runs.
func (p *process) begin(task string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running[task] = true
}

func (p *process) finish(task string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.running, task)
	p.leaveLocked()
}

// leave ends the process once it runs no task (P36).
func (p *process) leave() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.leaving = true
	p.leaveLocked()
}

func (p *process) leaveLocked() {
	if p.leaving && len(p.running) == 0 {
		time.AfterFunc(time.Millisecond, func() { p.exit(local.Ending{}) }) // behind its last answer
	}
}

// start makes a process of a command. It is a [local.Start].
func (m *member) start(cmd *exec.Cmd) (local.Process, error) {
	if m.host.Dead() {
		return nil, exec.ErrNotFound // what is left of a killed sidecar starts nothing
	}
	p := &process{
		member: m, born: time.Now(), termed: make(chan struct{}), exited: make(chan struct{}), running: make(map[string]bool),
		pid: m.world.nextPid(),
	}
	p.terms = sync.OnceFunc(func() { close(p.termed) })
	p.in, p.stdin = simnet.Pipe()
	p.stdout, p.out = simnet.Pipe()
	p.stderr, p.errs = simnet.Pipe()
	p.ctx, p.cancel = context.WithCancel(context.Background())
	m.mu.Lock()
	m.processes = append(slices.DeleteFunc(m.processes, (*process).gone), p)
	m.mu.Unlock()
	run := p.serve
	if slices.Contains(cmd.Args, "exec") {
		run = p.execute
	}
	p.all.Add(1)
	go func() {
		how := run()
		p.all.Done()
		p.exit(how)
	}()
	return p, nil
}

func (p *process) gone() bool { return closed(p.exited) }

// pass waits for a time, and reports whether the process still lives then.
func (p *process) pass(d time.Duration) bool {
	if d <= 0 {
		return p.ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-p.ctx.Done():
		return false
	}
}
