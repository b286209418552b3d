package forkserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/reaper"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// source is the source of a fork server for a worker without Graflow.
const source = `
import os, signal, sys, time
from graflow_sidecar import _forkserver, serve

def handle(task):
    do = task.record["do"]
    if do == "exit":
        os._exit(9)
    if do == "leave":
        pid = os.fork()
        if pid == 0:
            os.setsid()
            time.sleep(600)
        return [str(pid)]
    return [os.environ["SIDECAR_PROCESS_ID"], os.environ.get("ONLY")]

_forkserver.run(int(sys.argv[1]), lambda: None, lambda: serve(handle))
`

func config(log io.Writer) Config {
	_, file, _, _ := runtime.Caller(0)
	sdk := filepath.Join(filepath.Dir(file), "..", "..", "..", "..", "..", "examples", "python-worker")
	return Config{
		Command: []string{"python3", "-B", "-c", source}, WorkerID: "w",
		Env:          append(os.Environ(), "PYTHONPATH="+sdk, "ONLY=everybody"),
		StartTimeout: 30 * time.Second,
		Restart:      backoff.Policy{Min: 10 * time.Millisecond, Max: time.Second},
		Log:          slog.New(slog.NewTextHandler(log, nil)),
	}
}

// family is a Server with real processes.
type family struct {
	*Server
	log     testlog.Buffer
	spawner *local.Spawner
	n       int
}

func begin(t *testing.T) *family {
	t.Helper()
	f := &family{spawner: local.NewSpawner()}
	f.Server = New(config(&f.log))
	r, err := reaper.Begin(f.cfg.Log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Stop)
	t.Cleanup(f.spawner.Stop)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := f.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		stop()
		<-done
		if t.Failed() {
			t.Log(f.log.String())
		}
	})
	return f
}

// worker is a started worker, with a reader of its answers.
type worker struct {
	local.Process
	id  string
	out *bufio.Reader
}

// start starts a worker; forked reports whether the fork server forked it.
func (f *family) start(env ...string) (w *worker, forked bool, err error) {
	f.n++
	id := fmt.Sprint("w-0-", f.n)
	cmd := exec.Command("sleep", "600") // a worker without a fork does not speak the protocol
	cmd.Env = append(append(slices.Clone(f.cfg.Env), env...), local.IDVariable+"="+id)
	forked = true
	p, err := f.Start(cmd, func(cmd *exec.Cmd) (local.Process, error) {
		forked = false
		return f.spawner.Start(cmd)
	})
	if err != nil {
		return nil, false, err
	}
	return &worker{p, id, bufio.NewReader(p.Stdout())}, forked, nil
}

func (f *family) fork(t *testing.T, env ...string) *worker {
	t.Helper()
	w, forked, err := f.start(env...)
	if err != nil || !forked {
		t.Fatalf("not forked: %v\n%s", err, f.log.String())
	}
	t.Cleanup(func() { w.kill() })
	return w
}

func (w *worker) kill() {
	w.Signal(syscall.SIGKILL)
	<-w.Exited()
	_, _, _ = w.Stdin().Close(), w.Stdout().Close(), w.Stderr().Close()
}

func (w *worker) send(line string) { _, _ = io.WriteString(w.Stdin(), line+"\n") }

// run makes the worker run a task, after the handshake if requested.
func (w *worker) run(t *testing.T, do string) []string {
	t.Helper()
	w.handshake(t)
	w.send(`{"jsonrpc":"2.0","id":2,"method":"task/run","params":{"delivery":"r.1","attempt":1,"record":{"do":"` + do + `"}}}`)
	var got struct {
		Result struct {
			Value []string `json:"value"`
		} `json:"result"`
	}
	line, err := w.line()
	if err == nil {
		err = json.Unmarshal(line, &got)
	}
	if err != nil {
		t.Fatalf("%v: %q", err, line)
	}
	return got.Result.Value
}

func (w *worker) handshake(t *testing.T) {
	t.Helper()
	w.send(`{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1,"workerId":"w","slot":0}}`)
	if line, err := w.line(); err != nil || !bytes.Contains(line, []byte(`"protocolVersion":1`)) {
		t.Fatalf("%v: %q", err, line)
	}
}

// line reads the next line that is not empty, since a worker first writes a line end.
func (w *worker) line() ([]byte, error) {
	for {
		line, err := w.out.ReadBytes('\n')
		if err != nil || len(line) > 1 {
			return line, err
		}
	}
}

// pid returns the process id of the fork server.
func (f *family) pid(t *testing.T) int {
	t.Helper()
	var pid int
	wait.Until(t, "a fork server", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.up != nil {
			pid = f.up.pid()
		}
		return pid != 0
	})
	return pid
}

func TestAForkIsAChildOfOurs(t *testing.T) {
	f := begin(t)
	first, second := f.fork(t), f.fork(t, "ONLY=second")
	if got := first.run(t, ""); !slices.Equal(got, []string{first.id, "everybody"}) {
		t.Errorf("its environment: %q", got)
	}
	if got := second.run(t, ""); !slices.Equal(got, []string{second.id, "second"}) {
		t.Errorf("its environment: %q", got)
	}
	if group, err := syscall.Getpgid(first.Pid()); err != nil || group != first.Pid() {
		t.Errorf("its process group is %d (%v)", group, err)
	}
	if session, err := unix.Getsid(first.Pid()); err != nil || session != first.Pid() {
		t.Errorf("its session is %d (%v): it may have the sidecar's terminal", session, err)
	}
	// The sidecar gets their exit status, however they end.
	_ = first.Stdin().Close()
	<-first.Exited()
	second.send(`{"jsonrpc":"2.0","id":3,"method":"task/run","params":{"delivery":"r.2","attempt":1,"record":{"do":"exit"}}}`)
	<-second.Exited()
	third := f.fork(t)
	third.kill()
	for w, want := range map[*worker]string{first: "exited with status 0", second: "exited with status 9", third: "was killed by SIGKILL, sent by the sidecar"} {
		if got := w.Fate(); got != want {
			t.Errorf("%s: %s, want %s", w.id, got, want)
		}
	}
}

// TestThreadsMayComeAndGo: the parent-death signal is sent when the thread ends that is
// the parent. An orphan is given to the first thread of its new parent that is alive,
// and Go's runtime never ends the main thread.
func TestThreadsMayComeAndGo(t *testing.T) {
	f := begin(t)
	var workers []*worker
	var threads sync.WaitGroup
	for range 8 {
		workers = append(workers, f.fork(t))
		for range 20 {
			threads.Go(func() { runtime.LockOSThread() }) // the thread ends with it
		}
	}
	threads.Wait()
	list, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	ours := strings.Fields(string(list))
	for _, w := range workers {
		if !slices.Contains(ours, strconv.Itoa(w.Pid())) {
			t.Errorf("%d is no child of the first thread", w.Pid())
		}
		w.run(t, "")
	}
}

// given are the files that the test process has inherited, as every other process has.
var given = files(os.Getpid())

func files(pid int) (targets []string) {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil {
			targets = append(targets, target)
		}
	}
	return targets
}

func TestForksDoNotHoldEachOthersPipes(t *testing.T) {
	f := begin(t)
	held := make(map[string]int)
	for range 3 {
		w := f.fork(t)
		w.handshake(t)
		own := 0
		for _, target := range files(w.Pid()) {
			if slices.Contains(given, target) || target == "/dev/null" {
				continue
			}
			if owner, ok := held[target]; ok && owner != w.Pid() {
				t.Errorf("%d and %d both hold %s", owner, w.Pid(), target)
			}
			held[target] = w.Pid()
			own++
		}
		if own == 0 {
			t.Error("it has no pipe at all: the test sees nothing")
		}
	}
}

// TestWhatAForkForksIsFound: the process has left the group and has never called exec,
// so that /proc shows the environment of the fork server's start, or what was written
// over it.
func TestWhatAForkForksIsFound(t *testing.T) {
	f := begin(t)
	first, second := f.fork(t), f.fork(t)
	var left [2]int
	for i, w := range []*worker{first, second} {
		pid, err := strconv.Atoi(w.run(t, "leave")[0])
		if err != nil {
			t.Fatal(err)
		}
		left[i] = pid
		wait.Until(t, "its session", func() bool { sid, _ := unix.Getsid(pid); return sid == pid })
	}
	first.kill()
	if proc.Alive(strconv.Itoa(left[0])) {
		t.Errorf("%d has outlived its worker", left[0])
	}
	if !proc.Alive(strconv.Itoa(left[1])) {
		t.Errorf("%d has died with another worker than its own", left[1])
	}
	second.kill()
	if proc.Alive(strconv.Itoa(left[1])) {
		t.Errorf("%d has outlived its worker", left[1])
	}
}

func TestAForkServerThatIsKilledHarmsNoWorker(t *testing.T) {
	f := begin(t)
	before := f.fork(t)
	killed := f.pid(t)
	_ = syscall.Kill(killed, syscall.SIGKILL)
	wait.Until(t, "its end", func() bool { return !proc.Alive(strconv.Itoa(killed)) })
	between, _, err := f.start() // forked or not
	if err != nil {
		t.Fatal(err)
	}
	between.kill()
	wait.Until(t, "the next one", func() bool { return f.pid(t) != killed })
	after := f.fork(t)
	before.run(t, "")
	after.run(t, "")
}

func TestAForkServerThatHangsIsReplaced(t *testing.T) {
	f := begin(t)
	before := f.fork(t)
	hung := f.pid(t)
	f.mu.Lock()
	f.up.(*process).cfg.forkTimeout = 100 * time.Millisecond
	f.mu.Unlock()
	_ = syscall.Kill(hung, syscall.SIGSTOP)
	w, forked, err := f.start()
	if err != nil || forked {
		t.Fatalf("forked by a stopped process: %v", err)
	}
	w.kill()
	wait.Until(t, "the next one", func() bool { return f.pid(t) != hung })
	if proc.Alive(strconv.Itoa(hung)) {
		t.Error("the one that hung is still there")
	}
	before.run(t, "")
	if log := f.log.String(); !strings.Contains(log, "did not answer within 100ms") {
		t.Error(log)
	}
}

func TestWhatCannotStart(t *testing.T) {
	for name, c := range map[string]struct {
		source, want string
		unsupported  bool
	}{
		"no Python":    {"", "was not found on PATH", false},
		"ends":         {"import sys; print('no luck', file=sys.stderr); sys.exit(3)", "exited with status 3 before it was ready; its last line on stderr: no luck", false},
		"is too slow":  {"import time; time.sleep(60)", "was not ready within 300ms", false},
		"has a thread": {strings.Replace(source, "lambda: None", "lambda: __import__('threading').Thread(target=time.sleep, args=(60,), daemon=True).start()", 1), "started threads", true},
	} {
		t.Run(name, func(t *testing.T) {
			var log testlog.Buffer
			cfg := config(&log)
			cfg.Command[3] = c.source
			if c.source == "" {
				cfg.Command = []string{"no-such-python"}
			}
			if name == "is too slow" {
				cfg.StartTimeout = 300 * time.Millisecond
			}
			spawner := local.NewSpawner()
			defer spawner.Stop()
			_, err := launch(t.Context(), &cfg, spawner.Start)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
			if _, unsupported := errors.AsType[*UnsupportedError](err); unsupported != c.unsupported {
				t.Errorf("unsupported: %v (%v)", unsupported, err)
			}
		})
	}
}

func init() {
	roles["sidecar"] = playSidecar
	if os.Getenv(roleVariable) == "sidecar" {
		runtime.LockOSThread() // keeps the main thread for the main goroutine
	}
}

// playSidecar starts a fork server and workers, and leaves the main thread, which is their
// parent, idle. It prints their ids if they are still alive then.
func playSidecar() {
	if _, err := reaper.Begin(slog.New(slog.DiscardHandler)); err != nil {
		panic(err)
	}
	f := &family{}
	f.Server = New(config(io.Discard))
	go func() { _ = f.Run(context.Background()) }()
	var workers []*worker
	for range 3 {
		w, forked, err := f.start()
		if err != nil || !forked {
			panic(fmt.Sprint("not forked: ", err))
		}
		workers = append(workers, w)
	}
	go func() {
		t := &testing.T{}
		defer func() {
			if t.Failed() {
				os.Exit(1) // the test would otherwise wait for ever
			}
		}()
		for _, w := range workers {
			w.run(t, "")
			fmt.Println(w.Pid())
		}
		fmt.Println(f.up.pid())
		fmt.Println("all")
	}()
	runtime.Goexit()
}

func TestTheEndOfTheSidecarIsTheEndOfAll(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleVariable+"=sidecar")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pids []int
	for lines := bufio.NewScanner(out); lines.Scan() && lines.Text() != "all"; {
		pid, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	if len(pids) != 4 {
		t.Errorf("processes: %v, want three workers and the fork server", pids)
	}
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGSTOP) // it cannot notice the end of its input
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for _, pid := range pids {
		wait.Until(t, fmt.Sprint("the end of ", pid), func() bool { return !proc.Alive(strconv.Itoa(pid)) })
	}
}
