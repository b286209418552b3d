//go:build lifecycle

package lifecycle

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// sidecar is a running `sidecar run`.
type sidecar struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  *testlog.Buffer
	mark string        // in the environment of every process of it
	temp string        // its TMPDIR, where nothing may be left
	done chan struct{} // closed when it was waited for

	signalled time.Time // when signal was called last
	logged    int       // bytes of the log by then
}

var serial atomic.Int64

// sidecar starts one around this test binary, with more of the environment.
func (b *bench) sidecar(env ...string) *sidecar {
	b.t.Helper()
	return b.launch(nil, env...)
}

// start starts one with arguments and inherited files of the test's own.
func (b *bench) start(args []string, files []*os.File, env ...string) *sidecar {
	b.t.Helper()
	return b.run(args, files, nil, env...)
}

// launch starts one around this test binary that writes somewhere else, if
// stderr is set.
func (b *bench) launch(stderr *os.File, env ...string) *sidecar {
	b.t.Helper()
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	return b.run([]string{"--", self, "worker"}, nil, stderr, env...)
}

func (b *bench) run(args []string, files []*os.File, stderr *os.File, env ...string) *sidecar {
	b.t.Helper()
	binary, err := b.binary()
	if err != nil {
		b.t.Fatal(err)
	}
	cmd := exec.Command(binary, append([]string{"run"}, args...)...)
	cmd.ExtraFiles = files
	if stderr != nil {
		cmd.Stdout, cmd.Stderr = stderr, stderr
	}
	return b.command(cmd, env...)
}

// command starts a command that becomes a sidecar. Its output is the log, unless it has one.
func (b *bench) command(cmd *exec.Cmd, env ...string) *sidecar {
	b.t.Helper()
	id := fmt.Sprintf("life-%d-%d", os.Getpid(), serial.Add(1))
	s := &sidecar{cmd: cmd, t: b.t, log: &testlog.Buffer{}, mark: "LIFECYCLE_MARK=" + id, temp: b.t.TempDir(), done: make(chan struct{})}
	s.cmd.Dir = s.temp
	s.cmd.Env = append(proc.Env("TMPDIR"),
		"WORKER_ID="+id, "REDIS_URL=redis://"+b.addr+"/0", "REDIS_KEY_PREFIX="+b.prefix,
		"MAX_CONCURRENT_TASKS=2", "SIDECAR_LOG_FORMAT=json", "SIDECAR_KILL_GRACE=1s", "TMPDIR="+s.temp, s.mark)
	s.cmd.Env = append(s.cmd.Env, env...)
	if s.cmd.Stderr == nil {
		s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	}
	s.cmd.WaitDelay = 5 * time.Second
	if err := proc.Start(s.cmd); err != nil {
		b.t.Fatal(err)
	}
	go func() {
		defer close(s.done)
		_ = s.cmd.Wait() // how it ended is in ProcessState
	}()
	b.t.Cleanup(func() {
		_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
		<-s.done
		if b.t.Failed() {
			b.t.Logf("%s wrote:\n%s", id, testlog.Tail(s.log.String()))
		}
	})
	return s
}

func (s *sidecar) says(what string) bool { return strings.Contains(s.log.String(), what) }

// ready waits until it can run tasks.
func (s *sidecar) ready() {
	s.t.Helper()
	wait.Until(s.t, "the sidecar to be ready", func() bool { return s.says(`"sidecar is ready"`) || s.over() })
}

func (s *sidecar) over() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

func (s *sidecar) signal(sig syscall.Signal) {
	s.t.Helper()
	s.signalled, s.logged = time.Now(), len(s.log.String())
	if err := s.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Error(err)
	}
}

// exitWatchdog is the status of a stop that the watchdog has ended, exitCrash that of
// a crash of the Go runtime.
const (
	exitWatchdog = 70
	exitCrash    = 2
)

// exits waits for its end, and checks status, time since the last signal (by the clock
// of the machine) and that nothing of it is left.
func (s *sidecar) exits(status int, within time.Duration) (took time.Duration) {
	s.t.Helper()
	wait.Until(s.t, "the end of the sidecar", s.over)
	took = time.Since(s.signalled)
	if machine.Since(s.signalled) > within {
		s.t.Errorf("ended %v after the signal, want within %v", took, within)
	}
	if got := s.cmd.ProcessState.ExitCode(); got != status {
		s.t.Errorf("ended with %v, want status %d", s.cmd.ProcessState, status)
	}
	if status == exitWatchdog || status == exitCrash {
		// The watchdog kills the workers and waits for nothing, and after a crash the
		// kernel does: it ends them beside it.
		wait.Until(s.t, "the killed workers to end", func() bool { return len(proc.Marked(s.t, s.mark)) == 0 })
	}
	if left := proc.Marked(s.t, s.mark); len(left) > 0 {
		s.t.Errorf("processes left over: %v", left)
	}
	if files, _ := filepath.Glob(s.temp + "/*"); len(files) > 0 {
		s.t.Errorf("files left over: %v", files)
	}
	return took
}

// endsWithin is exits for a stop that needs its whole budget. By its own log it
// keeps it; what the machine takes to end the process and to tell us comes on
// top, and is no more than the watchdog's second.
func (s *sidecar) endsWithin(budget time.Duration) (took time.Duration) {
	s.t.Helper()
	s.exits(0, budget+time.Second)
	for _, l := range lines(s.t, s.log.String()[s.logged:]) {
		if l.Msg == "sidecar stopped" {
			took = l.Time.Sub(s.signalled)
		}
	}
	if took == 0 || machine.Between(s.signalled, s.signalled.Add(took)) > budget {
		s.t.Errorf("it had stopped after %v, with a budget of %v", took, budget)
	}
	return took
}

// terminate is SIGTERM and its wait.
func (s *sidecar) terminate(within time.Duration) time.Duration {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	return s.exits(0, within)
}

// line is one line of the log.
type line struct {
	Time  time.Time
	Level string
	Msg   string
	text  string
}

func lines(t *testing.T, text string) (list []line) {
	t.Helper()
	for text := range strings.Lines(text) {
		l := line{text: strings.TrimSpace(text)}
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Errorf("a line of the log that is not JSON: %s", text)
		}
		list = append(list, l)
	}
	return list
}

// noise is what no log of ours may hold about an expected fault.
var noise = regexp.MustCompile(`(?i)goroutine \d|panic:|traceback|stack trace`)

// netNoise is what must not be complained about once a stop has begun.
var netNoise = regexp.MustCompile(`(?i)closed file|bad file descriptor|connection refused|closed network|reset by peer|broken pipe|i/o timeout`)

// silent checks the log: no stack trace at all, and nothing about Redis being
// away, and no error whatever, after the last signal.
func (s *sidecar) silent() {
	s.t.Helper()
	text := s.log.String()
	if found := noise.FindString(text); found != "" {
		s.t.Errorf("the log has %q", found)
	}
	after := text[s.logged:]
	// What was written between the signal and its arrival is of before.
	if at := strings.Index(after, `"msg":"stopping`); at >= 0 {
		after = after[strings.LastIndexByte(after[:at], '\n')+1:]
	}
	for _, l := range lines(s.t, after) {
		if l.Level == "ERROR" || (l.Level != "DEBUG" && netNoise.MatchString(l.text)) {
			s.t.Errorf("after the signal it wrote: %s", l.text)
		}
	}
}
