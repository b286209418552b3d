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
	id    string // WORKER_ID, unique: names its runs
	spare bool   // never killed
	cmd   *exec.Cmd
	log   string // file
	proxy *faultproxy.Proxy
	done  chan struct{} // closed when it was waited for and what it held is noted

	// Set before it ends; see world.bereave.
	asked bool
}

// setup changes how a sidecar is started.
type setup struct {
	env   []string
	spare bool
	// stderr is where it writes its log, in place of its file.
	stderr *os.File
	proxy  *faultproxy.Proxy // its way to Redis
	// where says where Redis is, in place of REDIS_URL.
	where []string
	// graflow is a Python to run Graflow's tasks with, in place of this binary.
	graflow string
	// kinds are patterns of several kinds of worker, each of them this binary.
	kinds []string
	// exec has a process for each task (mode exec), which is this binary.
	exec bool
	// quits has workers that exit with status 0 after each answer.
	quits bool
	// byHand has workers whose answers may be in any form.
	byHand bool
}

// markVariable is in the environment of every process that a sidecar starts.
const markVariable = "FAULT_MARK"

// start starts a sidecar around this test binary. It is killed when the test
// ends, if it still runs.
func (w *world) start(s setup) *sidecar {
	w.t.Helper()
	binary, err := sidecarBinary()
	if err != nil {
		w.t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		w.t.Fatal(err)
	}
	w.mu.Lock()
	w.started++
	id := w.name + "-" + strconv.Itoa(w.started)
	w.mu.Unlock()
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
		historyVariable+"="+w.hist.path, marksVariable+"="+w.marks, markVariable+"="+w.prefix,
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

// signal reaches the sidecar's own process.
func (s *sidecar) signal(sig syscall.Signal) {
	s.w.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.w.t.Error(err)
	}
}

// kill ends it with SIGKILL; its done tells when that was noted.
func (s *sidecar) kill() { _ = s.cmd.Process.Kill() } // it may be dead already

// ends waits for its end, and reports whether it came in time.
func (s *sidecar) ends(within time.Duration) bool {
	for began := time.Now(); machine.Since(began) <= within; wait.Pass(5 * time.Millisecond) {
		if s.over() {
			return true
		}
	}
	return s.over()
}

// stop ends it with SIGTERM and expects status 0.
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

// text is the log so far.
func (s *sidecar) text() string {
	s.w.t.Helper()
	b, err := os.ReadFile(s.log)
	if err != nil {
		s.w.t.Error(err)
	}
	return string(b)
}

func (s *sidecar) says(what string) bool { return strings.Contains(s.text(), what) }

// ready waits until n workers of it are up.
func (s *sidecar) ready(n int) {
	s.w.t.Helper()
	wait.Within(s.w.t, 20*time.Second, s.id+" with its workers up", func() bool {
		return strings.Count(s.text(), `"worker ready"`) >= n || s.over()
	})
}

// children are the process ids of its workers, and grandchildren of theirs.
func (s *sidecar) children() []int { return proc.Children(s.pid()) }
