package local

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/reaper"
)

// proc is one process of the operating system in a process group of its own, with pipes
// for its standard streams. Its methods may be called concurrently.
type proc struct {
	pid    int
	id     string   // see IDVariable
	stdin  *os.File // the sidecar's ends
	stdout ReadPipe
	stderr ReadPipe
	exited chan struct{} // see Process.Exited

	mu     sync.Mutex
	reaped bool           // the pid may now belong to another process
	sent   syscall.Signal // the last signal sent by Signal

	// Set by wait.
	status syscall.WaitStatus
	usage  syscall.Rusage
	fate   string
	left   bool // it left running processes behind
	unread int64
}

// start runs the command. It does not use os/exec, whose Wait closes StdoutPipe and
// loses output that has not been read, nor os.Process: both prepare both ends of each
// pipe for the poller, which costs more than the fork.
func start(cmd *exec.Cmd) (*proc, error) {
	if cmd.Err != nil {
		return nil, cmd.Err
	}
	memory.begin()
	var ps pipes
	if err := ps.open(); err != nil {
		ps.close()
		return nil, err
	}
	attr := &syscall.ProcAttr{Dir: cmd.Dir, Env: cmd.Environ(), Files: make([]uintptr, 0, 3+len(cmd.ExtraFiles)), Sys: sysProcAttr()}
	for _, fd := range ps.theirs {
		attr.Files = append(attr.Files, uintptr(fd))
	}
	for _, f := range cmd.ExtraFiles {
		attr.Files = append(attr.Files, f.Fd())
	}
	pid, err := reaper.Fork(cmd.Path, cmd.Args, attr)
	runtime.KeepAlive(cmd) // keeps its files open
	ps.closeTheirs()       // reads would otherwise never see the end of file
	if err != nil {
		ps.close()
		return nil, explain(cmd, err)
	}
	p := &proc{pid: pid, id: processID(cmd.Env), stdin: ps.stdin, stdout: ps.out[0], stderr: ps.out[1], exited: make(chan struct{})}
	go p.wait()
	return p, nil
}

// escapeGrace bounds the wait for the death of processes that left the group.
const escapeGrace = time.Second

// wait reaps the process, and ends what is left of its group and the processes that
// have left the group and become orphans of the sidecar. The group is killed while its
// leader is still a zombie: after the reaping its number may belong to another group.
func (p *proc) wait() {
	awaitExit(p.pid)
	p.unread = unreadBytes(p.stdin)
	p.left = reaper.HasLeft(IDVariable+"="+p.id, p.pid)
	p.mu.Lock()
	if awaitsBeforeReaping {
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
		p.reaped = true
	}
	p.mu.Unlock()
	p.status = reap(p.pid, &p.usage)
	p.mu.Lock()
	p.reaped = true
	sent := p.sent
	p.mu.Unlock()
	p.fate = fate(p.status, sent != 0 && sent == p.status.Signal(), memory.died, peakMemory(&p.usage))
	reaper.Release(p.pid)
	if p.id != "" {
		reaper.End(IDVariable+"="+p.id, p.pid, escapeGrace)
	}
	close(p.exited)
}

// reap waits for a child of the sidecar and returns its status.
func reap(pid int, usage *syscall.Rusage) (status syscall.WaitStatus) {
	for {
		_, err := syscall.Wait4(pid, &status, 0, usage)
		if !errors.Is(err, syscall.EINTR) {
			return status
		}
	}
}

func (p *proc) Pid() int                { return p.pid }
func (p *proc) Stdin() WritePipe        { return p.stdin }
func (p *proc) Stdout() ReadPipe        { return p.stdout }
func (p *proc) Stderr() ReadPipe        { return p.stderr }
func (p *proc) Exited() <-chan struct{} { return p.exited }

// Signal sends sig to the whole group. It does nothing once the process is reaped.
func (p *proc) Signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		p.sent = sig
		_ = syscall.Kill(-p.pid, sig)
	}
}

// Fate describes how the process ended. It may be called after Exited.
func (p *proc) Fate() string { return p.fate }

// InputRead implements [InputRead].
func (p *proc) InputRead(written int64) int64 { return written - p.unread }

// LeftBehind implements [LeftBehind].
func (p *proc) LeftBehind() bool { return p.left }

// Spawner starts children from operating system threads that live as long as the
// children: the parent-death signal fires when the thread that started a child ends,
// and Go ends threads at any time. Start may be called concurrently.
type Spawner struct {
	jobs chan spawnJob
	done sync.WaitGroup
}

type spawnJob struct {
	cmd   *exec.Cmd
	reply chan spawnReply
}

type spawnReply struct {
	p   *proc
	err error
}

// NewSpawner returns a spawner with one thread. It must be stopped when every child is
// gone.
func NewSpawner() *Spawner { return NewSpawnerOf(1) }

// NewSpawnerOf returns a spawner with several threads, for many starts a second. A
// start occupies its thread from fork to exec and for the wake-ups around it: on a busy
// machine one thread starts half as many processes as several.
func NewSpawnerOf(threads int) *Spawner {
	s := &Spawner{jobs: make(chan spawnJob)}
	for range threads {
		s.done.Go(s.loop)
	}
	return s
}

func (s *Spawner) loop() {
	unlock := lockThread()
	defer unlock()
	if isFirstThread() {
		// The main thread gets the orphans. If it had children of its own in the same
		// list, a search for an orphan would have to check each of them. While this
		// goroutine is locked to that thread, the loop runs on another one.
		var other sync.WaitGroup
		other.Go(s.loop)
		other.Wait()
		return
	}
	for job := range s.jobs {
		p, err := start(job.cmd)
		job.reply <- spawnReply{p, err}
	}
}

// Start runs a command that has everything except its streams and its group.
func (s *Spawner) Start(cmd *exec.Cmd) (Process, error) {
	job := spawnJob{cmd, make(chan spawnReply, 1)}
	s.jobs <- job
	r := <-job.reply
	if r.err != nil {
		return nil, r.err
	}
	return r.p, nil
}

// Stop ends the threads. It must be called only when every child is gone.
func (s *Spawner) Stop() {
	close(s.jobs)
	s.done.Wait()
}
