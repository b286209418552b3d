package subproc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/reaper"
)

// proc is one operating system process in a process group of its own, with
// pipes to its standard streams. Its methods may be called concurrently.
type proc struct {
	pid    int
	id     string   // see IDVariable
	reap   func()   // waits for it
	stdin  *os.File // our ends
	stdout *os.File
	stderr *os.File
	exited chan struct{} // see Process.Exited

	mu     sync.Mutex
	reaped bool               // the pid may belong to somebody else now
	status syscall.WaitStatus // set by reap
}

// start runs the command. The pipes are ours and not os/exec's: its StdoutPipe
// is closed by Wait, which loses output that has not been read, and a copying
// goroutine would tie Wait to grandchildren that hold the pipe.
func start(cmd *exec.Cmd) (*proc, error) {
	p := &proc{id: processID(cmd.Env), exited: make(chan struct{})}
	var theirs []*os.File
	closeAll := func(fs ...*os.File) {
		for _, f := range fs {
			if f != nil {
				_ = f.Close()
			}
		}
	}
	pipe := func() (r, w *os.File, err error) {
		r, w, err = os.Pipe()
		if err != nil {
			err = fmt.Errorf("no pipe for the worker: %w", err)
		}
		return r, w, err
	}
	r, w, err := pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdin, p.stdin, theirs = r, w, append(theirs, r)
	if r, w, err = pipe(); err != nil {
		closeAll(append(theirs, p.stdin)...)
		return nil, err
	}
	cmd.Stdout, p.stdout, theirs = w, r, append(theirs, w)
	if r, w, err = pipe(); err != nil {
		closeAll(append(theirs, p.stdin, p.stdout)...)
		return nil, err
	}
	cmd.Stderr, p.stderr, theirs = w, r, append(theirs, w)

	cmd.SysProcAttr = sysProcAttr()
	err = reaper.Start(cmd)
	closeAll(theirs...) // or our reads would never see the end of file
	if err != nil {
		closeAll(p.stdin, p.stdout, p.stderr)
		return nil, err
	}
	p.pid = cmd.Process.Pid
	p.reap = func() {
		_ = cmd.Wait() // how it ended is in ProcessState
		if st := cmd.ProcessState; st != nil {
			p.status, _ = st.Sys().(syscall.WaitStatus)
		}
	}
	go p.wait()
	return p, nil
}

// escapeGrace bounds the wait for the death of what left the group.
const escapeGrace = time.Second

// wait reaps the process and ends what is left of its group, and then what has
// left the group and has become an orphan of ours. The group is
// killed while the leader is still a zombie: after the reaping its number may
// be another's.
func (p *proc) wait() {
	awaitExit(p.pid)
	p.mu.Lock()
	if awaitsBeforeReaping {
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
		p.reaped = true
	}
	p.mu.Unlock()
	p.reap()
	p.mu.Lock()
	p.reaped = true
	p.mu.Unlock()
	reaper.Release(p.pid)
	if p.id != "" {
		reaper.End(IDVariable+"="+p.id, p.pid, escapeGrace)
	}
	close(p.exited)
}

func (p *proc) Pid() int                { return p.pid }
func (p *proc) Stdin() WritePipe        { return p.stdin }
func (p *proc) Stdout() ReadPipe        { return p.stdout }
func (p *proc) Stderr() ReadPipe        { return p.stderr }
func (p *proc) Exited() <-chan struct{} { return p.exited }

// Signal sends sig to the whole group; to nobody once the process is reaped.
func (p *proc) Signal(sig syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.reaped {
		_ = syscall.Kill(-p.pid, sig)
	}
}

// Fate says in words how the process ended. Only after exited.
func (p *proc) Fate() string {
	if p.status.Signaled() {
		return "was killed by " + p.status.Signal().String()
	}
	return fmt.Sprintf("exited with status %d", p.status.ExitStatus())
}

// Spawner starts every child from one operating system thread that lives as
// long as the children do: the parent-death signal fires when the *thread*
// that started a child ends, and Go ends threads as it likes. Start may be called
// concurrently.
type Spawner struct {
	jobs chan spawnJob
	done chan struct{}
}

type spawnJob struct {
	cmd   *exec.Cmd
	reply chan spawnReply
}

type spawnReply struct {
	p   *proc
	err error
}

// NewSpawner returns a spawner with its thread. Stop it when every child is gone.
func NewSpawner() *Spawner {
	s := &Spawner{jobs: make(chan spawnJob), done: make(chan struct{})}
	go s.loop()
	return s
}

func (s *Spawner) loop() {
	defer close(s.done)
	unlock := lockThread()
	defer unlock()
	for job := range s.jobs {
		p, err := start(job.cmd)
		job.reply <- spawnReply{p, err}
	}
}

// Start runs a command that is complete but for its streams and its group.
func (s *Spawner) Start(cmd *exec.Cmd) (Process, error) {
	job := spawnJob{cmd, make(chan spawnReply, 1)}
	s.jobs <- job
	r := <-job.reply
	if r.err != nil {
		return nil, r.err
	}
	return r.p, nil
}

// Stop ends the thread's role. Only when every child is gone.
func (s *Spawner) Stop() {
	close(s.jobs)
	<-s.done
}

// StartReason puts the operating system's refusal into plain words.
func StartReason(err error) string {
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return "the command was not found on PATH"
	case errors.Is(err, os.ErrNotExist):
		return "the file does not exist"
	case errors.Is(err, os.ErrPermission):
		return "permission denied: is it executable?"
	case errors.Is(err, syscall.ENOEXEC):
		return "not an executable: a script needs a #! line"
	default:
		return err.Error()
	}
}
