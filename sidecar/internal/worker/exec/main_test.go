package exec_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	osexec "os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/pipeline/dispatch"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/exec"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// The test binary is its own worker: with this variable it runs one entry of the menu
// instead of the tests.
const roleVariable = "EXECUTE_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		play, ok := menu[role]
		if !ok {
			fmt.Fprintln(os.Stderr, "no such role:", role)
			os.Exit(99)
		}
		play()
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// fileVariable names a file for a role to write.
const fileVariable = "EXECUTE_TEST_FILE"

// mark tells the test that the process has reached this point.
func mark(text string) {
	path := os.Getenv(fileVariable)
	if err := os.WriteFile(path+".tmp", []byte(text), 0o600); err != nil {
		panic(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		panic(err)
	}
}

// menu has the processes that the tests run.
var menu = map[string]func(){
	"echoes": func() { _, _ = io.Copy(os.Stdout, os.Stdin) },
	"exits 75": func() {
		fmt.Fprintln(os.Stderr, "the printer is out of paper")
		os.Exit(75)
	},
	"dies by SIGKILL": func() {
		fmt.Fprintln(os.Stderr, "last words")
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	},
	"dies by a segmentation fault": func() {
		signal.Reset(syscall.SIGSEGV)
		cmd := osexec.Command("sh", "-c", "kill -SEGV $$")
		_ = syscall.Exec(cmd.Path, cmd.Args, os.Environ())
	},
	"ignores SIGTERM": func() {
		signal.Ignore(syscall.SIGTERM)
		mark(strconv.Itoa(os.Getpid()))
		time.Sleep(time.Hour)
	},
	"ends with 0 on SIGTERM": func() {
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGTERM)
		mark(strconv.Itoa(os.Getpid()))
		<-asked
		fmt.Println(`"I was asked to stop"`)
	},
	"floods stdout": func() {
		signal.Ignore(syscall.SIGTERM)
		chunk := bytes.Repeat([]byte("y\n"), 32<<10)
		for {
			if _, err := os.Stdout.Write(chunk); err != nil {
				return
			}
		}
	},
	"floods stderr": func() {
		for i := range 5000 {
			fmt.Fprintf(os.Stderr, "line %d %s\n", i, strings.Repeat("e", 300))
		}
		fmt.Fprintln(os.Stderr, strings.Repeat("long", 1<<20))
		fmt.Fprintln(os.Stderr, "\x1b[31mit went wrong\x1b[0m")
		os.Exit(1)
	},
	"leaves a grandchild": func() {
		cmd := osexec.Command("sleep", "600")
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr // it keeps the pipes open
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		mark(strconv.Itoa(cmd.Process.Pid))
		fmt.Println(`"left one behind"`)
	},
	"leaves a grandchild outside its group": func() {
		cmd := osexec.Command("sh", "-c", "while :; do echo noise; echo noise >&2; done")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		fmt.Println(`"before"`)
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		mark(strconv.Itoa(cmd.Process.Pid))
	},
	"a quiet grandchild outside its group": func() {
		cmd := osexec.Command("sleep", "600")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		if err := cmd.Start(); err != nil {
			panic(err)
		}
		mark(strconv.Itoa(cmd.Process.Pid))
		fmt.Print(strings.Repeat("x", 60_000)) // one write of almost the capacity of the pipe
		fmt.Fprintln(os.Stderr, "a last line")
	},
	"reads nothing": func() {
		mark(strconv.Itoa(os.Getpid()))
		time.Sleep(300 * time.Millisecond)
		fmt.Println("done without looking")
	},
	"closes its stdin": func() {
		_ = os.Stdin.Close()
		time.Sleep(100 * time.Millisecond)
		fmt.Println("done with closed eyes")
	},
	"closes its stdout": func() {
		fmt.Println(`"said before"`)
		_ = os.Stdout.Close()
		time.Sleep(100 * time.Millisecond)
	},
	"waits for its stdin's end": func() {
		n, err := io.Copy(io.Discard, os.Stdin)
		fmt.Printf("[%d,%t]", n, err == nil)
	},
	"shows its environment": func() {
		for _, name := range []string{
			"SIDECAR_TASK_ID", "SIDECAR_SESSION_ID", "SIDECAR_GROUP_ID", "SIDECAR_ATTEMPT",
			"SIDECAR_DEADLINE", "TRACEPARENT", "SIDECAR_PROCESS_ID", "KEPT",
		} {
			text, set := os.LookupEnv(name)
			fmt.Printf("%s %t %s\n", name, set, text)
		}
	},
}

// bundle is a stage on a queue, with a channel of its outcomes.
type bundle struct {
	t        testing.TB
	queue    *dispatch.Queue
	stage    *exec.Stage
	outcomes chan task.Outcome
	log      *testlog.Buffer
	file     string
	stop     context.CancelFunc // soft
	abort    context.CancelFunc // hard
	ended    chan error
	seq      int64
}

func (b *bundle) Add(o task.Outcome) { b.outcomes <- o }

// self returns the command that runs a role of the menu.
func self(t testing.TB, c *exec.Config, role string) {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c.Command = []string{path}
	// Without it the race detector delays the end of each child by a second.
	c.Env = append(c.Env, roleVariable+"="+role, "GORACE=atexit_sleep_ms=0")
}

func config(log io.Writer) exec.Config {
	return exec.Config{
		Env: os.Environ(), Slots: 1, WorkerID: "test",
		StartRetries: 1, Restart: backoff.Policy{Min: time.Millisecond, Max: 10 * time.Millisecond},
		KillGrace: 2 * time.Second, MaxOutput: 1 << 20,
		Log: slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

func setup(t testing.TB, change func(*exec.Config)) *bundle {
	t.Helper()
	b := &bundle{t: t, outcomes: make(chan task.Outcome, 1000), log: &testlog.Buffer{}, file: t.TempDir() + "/mark", ended: make(chan error, 1)}
	cfg := config(b.log)
	cfg.Env = append(cfg.Env, fileVariable+"="+b.file)
	change(&cfg)
	b.run(cfg)
	return b
}

func (b *bundle) run(cfg exec.Config) {
	b.queue = dispatch.New(dispatch.Exits{Requeue: func(x task.Task) { b.Add(task.Outcome{Task: x, Conclusion: task.Returned}) }})
	b.stage = exec.New(cfg, b.queue, b)
	soft, stop := context.WithCancel(context.Background())
	hard, abort := context.WithCancel(context.Background())
	b.stop, b.abort = stop, abort
	go func() { b.ended <- b.stage.Run(soft, hard) }()
	b.t.Cleanup(func() {
		b.halt()
		if b.t.Failed() {
			b.t.Log(testlog.Tail(b.log.String()))
		}
	})
}

// halt stops the stage at once, if it is not stopped yet.
func (b *bundle) halt() {
	b.queue.Close()
	b.stop()
	b.abort()
	_ = b.wait() // the test checks the error itself
}

func (b *bundle) wait() error {
	select {
	case err := <-b.ended:
		b.ended <- err
		return err
	case <-time.After(20 * time.Second):
		b.t.Error("the stage does not stop")
		return nil
	}
}

// put offers a record to the stage, once the stage can run one.
func (b *bundle) put(record string, change ...func(*task.Task)) task.Task {
	b.t.Helper()
	wait.Until(b.t, "a free slot", func() bool { return b.queue.Counts().Capacity > 0 })
	b.seq++
	x := task.Task{Delivery: fmt.Sprint("run.", b.seq), Seq: b.seq, Attempt: 1, Record: []byte(record), Info: task.Info{TaskID: fmt.Sprint("task-", b.seq)}}
	for _, c := range change {
		c(&x)
	}
	b.queue.Offer([]task.Task{x})
	return x
}

func (b *bundle) next() task.Outcome {
	b.t.Helper()
	select {
	case o := <-b.outcomes:
		return o
	case <-time.After(20 * time.Second):
		b.t.Fatalf("no outcome; the log:\n%s", testlog.Tail(b.log.String()))
		return task.Outcome{}
	}
}

// marked waits for the mark of a role, and returns it as a number.
func (b *bundle) marked() (n int) {
	b.t.Helper()
	wait.Until(b.t, "the process's mark", func() bool {
		text, err := os.ReadFile(b.file)
		if err != nil {
			return false
		}
		n, err = strconv.Atoi(string(text))
		return err == nil
	})
	return n
}

// gone fails the test if the process still exists after a moment.
func gone(t testing.TB, pid int) {
	t.Helper()
	wait.Until(t, fmt.Sprintf("process %d to be gone", pid), func() bool { return !proc.Alive(strconv.Itoa(pid)) })
}
