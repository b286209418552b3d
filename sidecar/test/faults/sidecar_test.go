//go:build faults

package faults

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/faultproxy"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// sidecar is one running `sidecar run`.
type sidecar struct {
	w     *world
	id    string // WORKER_ID; it is unique, and the names of its runs begin with it
	spare bool   // never killed
	cmd   *exec.Cmd
	log   string // file
	proxy *faultproxy.Proxy
	done  chan struct{} // closed when the process is gone and its tasks in flight are noted

	// asked is set when the test asks the sidecar to end; world.bereave notes no death then.
	asked bool
}

// setup changes how a sidecar is started.
type setup struct {
	env   []string
	spare bool
	// binary is the sidecar's binary, in place of that of the fleet.
	binary func() (string, error)
	// stderr gets the sidecar's log in place of the log file.
	stderr *os.File
	proxy  *faultproxy.Proxy // between the sidecar and Redis
	// where has the variables that name the Redis, in place of REDIS_URL.
	where []string
	// graflow is the Python that runs Graflow's tasks, in place of this binary.
	graflow string
	// kinds are the patterns of several kinds of worker; each worker is this binary.
	kinds []string
	// exec selects mode exec: each task gets a process of its own, which is this binary.
	exec bool
	// quits selects workers that exit with status 0 after each answer.
	quits bool
	// byHand selects workers whose answers may have any form.
	byHand bool
}

// markVariable is in the environment of every process that a sidecar starts.
const markVariable = "FAULT_MARK"

// start starts a sidecar whose workers are this test binary. A sidecar that still runs at the
// end of the test is killed.
func (w *world) start(s setup) *sidecar {
	w.t.Helper()
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.started++
	number := w.started
	w.mu.Unlock()
	id := w.name + "-" + strconv.Itoa(number)
	if s.binary == nil {
		s.binary = func() (string, error) { return fleet(number) }
	}
	binary, err := s.binary()
	if err != nil {
		w.t.Fatal(err)
	}
	sc := &sidecar{w: w, id: id, spare: s.spare, proxy: s.proxy, done: make(chan struct{}), log: filepath.Join(w.dir, id+".log")}
	log, err := os.Create(sc.log)
	if err != nil {
		w.t.Fatal(err)
	}
	defer log.Close()
	addr := w.server.Addr
	if s.proxy != nil {
		addr = s.proxy.Addr()
	}
	args := []string{"run", "--", self, "worker"}
	if s.graflow != "" {
		args = []string{"run", "--graflow", "--python", s.graflow}
	}
	if s.exec {
		args = []string{"run", "--mode", "exec", "--", self, "task"}
	}
	if s.quits {
		args = []string{"run", "--", self, "quitter"}
	}
	if s.byHand {
		args = []string{"run", "--", self, "by-hand"}
	}
	if len(s.kinds) > 0 {
		args = []string{"run"}
		for _, pattern := range s.kinds {
			args = append(args, "--worker", pattern+"='"+self+"' worker")
		}
	}
	sc.cmd = exec.Command(binary, args...)
	sc.cmd.Dir = w.dir
	sc.cmd.Env = append(proc.Env(),
		"WORKER_ID="+id, "REDIS_KEY_PREFIX="+w.prefix,
		"MAX_CONCURRENT_TASKS=2", "LOG_LEVEL=DEBUG", "SIDECAR_LOG_FORMAT=json", "SIDECAR_KILL_GRACE=1s",
		historyVariable+"="+w.hist.Path, marksVariable+"="+w.marks, markVariable+"="+w.prefix,
	)
	if s.spare {
		sc.cmd.Env = append(sc.cmd.Env, spareVariable+"=1")
	}
	if s.where == nil {
		s.where = []string{"REDIS_URL=redis://" + addr + "/0"}
	}
	sc.cmd.Env = append(append(sc.cmd.Env, s.where...), s.env...)
	sc.cmd.Stdout, sc.cmd.Stderr = log, log
	if s.stderr != nil {
		sc.cmd.Stderr = s.stderr
	}
	if err := proc.Start(sc.cmd); err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.sidecars = append(w.sidecars, sc)
	w.mu.Unlock()
	go func() {
		defer close(sc.done)
		_ = sc.cmd.Wait() // how it ended is in ProcessState
		w.bereave(sc)
	}()
	return sc
}

func (s *sidecar) pid() int { return s.cmd.Process.Pid }

func (s *sidecar) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// signal sends a signal to the sidecar's own process.
func (s *sidecar) signal(sig syscall.Signal) {
	s.w.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.w.t.Error(err)
	}
}

// kill ends the sidecar with SIGKILL; done is closed when its death is noted.
func (s *sidecar) kill() { _ = s.cmd.Process.Kill() } // it may be dead already

// ends waits until the sidecar has ended, and reports whether it did so in time.
func (s *sidecar) ends(within time.Duration) bool {
	for began := time.Now(); machine.Since(began) <= within; wait.Pass(5 * time.Millisecond) {
		if s.over() {
			return true
		}
	}
	return s.over()
}

// stop ends the sidecar with SIGTERM and expects status 0.
func (s *sidecar) stop() {
	s.w.mu.Lock()
	s.asked = true
	s.w.mu.Unlock()
	if s.over() {
		return
	}
	s.signal(syscall.SIGTERM)
	s.signal(syscall.SIGCONT)
	if !s.ends(30 * time.Second) {
		s.w.violation("%s did not stop within 30 s", s.id)
		s.kill()
		<-s.done
	}
	if status := s.cmd.ProcessState.ExitCode(); status != 0 {
		s.w.violation("%s ended with status %d (%v) after SIGTERM", s.id, status, s.cmd.ProcessState)
	}
}

// text returns the log so far.
func (s *sidecar) text() string {
	s.w.t.Helper()
	b, err := os.ReadFile(s.log)
	if err != nil {
		s.w.t.Error(err)
	}
	return string(b)
}

func (s *sidecar) says(what string) bool { return strings.Contains(s.text(), what) }

// ready waits until n workers of the sidecar have come up.
func (s *sidecar) ready(n int) {
	s.w.t.Helper()
	wait.Within(s.w.t, 20*time.Second, s.id+" with its workers up", func() bool {
		return strings.Count(s.text(), `"worker ready"`) >= n || s.over()
	})
}

// children returns the process ids of the sidecar's child processes, its workers.
func (s *sidecar) children() []int { return proc.Children(s.pid()) }
