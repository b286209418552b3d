package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
)

// job is what a test process gets: see overlay/job.go.txt.
type job struct {
	Tests   []string
	Profile bool
	Package string
	Mutant  int
	Script  string
	Changed string
	Parts   map[string]string
}

// measured is what a profile tells about a test.
type measured struct {
	Test   string
	Failed bool
	Time   time.Duration // by the clock of package machine
	Uses   []string
	Class  class // unknown to the process
}

// result is how a test process ended.
type result struct {
	failed   bool
	by       string // the test that failed, or that did not end
	hung     bool
	measured []measured
	output   string
}

// run runs a test process. bound is how long each test may take.
func (s *subject) run(folder string, j job, bound func(test string) time.Duration, env ...string) (result, error) {
	if !j.Profile {
		j.Parts = nil
	}
	text, err := json.Marshal(j)
	if err != nil {
		return result{}, err
	}
	file, err := os.CreateTemp(folder, "job-")
	if err != nil {
		return result{}, err
	}
	defer os.Remove(file.Name())
	if _, err := file.Write(text); err != nil {
		return result{}, err
	}
	if err := file.Close(); err != nil {
		return result{}, err
	}
	lines, theirs, err := os.Pipe()
	if err != nil {
		return result{}, err
	}
	defer lines.Close()
	cmd := exec.Command(s.binary, "-test.short", "-test.timeout", "0")
	if !j.Profile { // after a failure it skips all tests, those of a later call of Run, too
		cmd.Args = append(cmd.Args, "-test.failfast")
	}
	cmd.Dir = build.Root(s.dir)
	cmd.Env = append(append(os.Environ(), "MUTATE_JOB="+file.Name()), env...)
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = time.Second
	err = cmd.Start()
	theirs.Close()
	if err != nil {
		return result{}, err
	}
	r := result{by: "the start of the process"}
	watch := watchdog{limit: bound(""), kill: func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }}
	stop := watch.start()
	read := make(chan struct{})
	go func() {
		defer close(read)
		for in := bufio.NewReaderSize(lines, 1<<20); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			line = strings.TrimSuffix(line, "\n")
			if test, ok := strings.CutPrefix(line, "run "); ok {
				r.by = test
				watch.restart(bound(test))
			} else if text, ok := strings.CutPrefix(line, "ran "); ok {
				var m measured
				if json.Unmarshal([]byte(text), &m) == nil {
					m.Time = machine.Since(watch.begun())
					r.measured = append(r.measured, m)
				}
			}
		}
	}()
	err = cmd.Wait()
	r.hung = stop()
	// A process that the test left behind may have the other end.
	_ = lines.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	<-read
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what it left behind; there is mostly nothing
	r.failed, r.output = err != nil, output.String()
	return r, nil
}

// watchdog ends a process whose test takes longer than its limit, by the clock of package
// machine.
type watchdog struct {
	mu    sync.Mutex
	since time.Time
	limit time.Duration
	fired bool
	kill  func()
}

// start returns the function that ends the watchdog and reports whether it has fired.
func (w *watchdog) start() func() bool {
	w.restart(w.limit)
	over := make(chan struct{})
	var done sync.WaitGroup
	done.Go(func() {
		for tick := time.NewTicker(machine.Every); ; {
			select {
			case <-tick.C:
			case <-over:
				tick.Stop()
				return
			}
			w.mu.Lock()
			if machine.Since(w.since) > w.limit && !w.fired {
				w.fired = true
				w.kill()
			}
			w.mu.Unlock()
		}
	})
	return func() bool {
		close(over)
		done.Wait()
		return w.fired
	}
}

func (w *watchdog) begun() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.since
}

func (w *watchdog) restart(limit time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.since, w.limit = time.Now(), limit
}
