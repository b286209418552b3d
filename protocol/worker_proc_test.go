package protocol

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// roleVariable makes the test binary a worker: the real thing, with real pipes,
// signals and file descriptors.
const roleVariable = "PROTOCOL_TEST_WORKER"

// roles are the handlers of such workers.
var roles = map[string]Handler{
	"answer": answer,
	"print":  printEverywhere,
	"wait":   waitForFile,
	"hang":   func(context.Context, *Task) (any, error) { select {} },
}

func TestMain(m *testing.M) {
	role := os.Getenv(roleVariable)
	if role == "" {
		goleak.VerifyTestMain(m)
		return
	}
	if role == "banner" {
		fmt.Print("loading")
		role = "answer"
	}
	name, concurrency, many := strings.Cut(role, " ")
	atOnce := 2
	if many {
		atOnce, _ = strconv.Atoi(concurrency)
	}
	err := Serve(context.Background(), roles[name], WithInfo("test", "1"), WithConcurrency(atOnce))
	switch {
	case err == nil:
		os.Exit(0)
	case errors.Is(err, ErrOrphaned):
		os.Exit(3)
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(4)
	}
}

// printEverywhere is user code that knows nothing of protocols.
func printEverywhere(context.Context, *Task) (any, error) {
	fmt.Println("a print to stdout")
	fmt.Fprintln(os.Stderr, "a print to stderr")
	child := exec.Command("sh", "-c", "echo a print of a child; cat; ls /proc/self/fd 2>/dev/null | wc -l")
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := child.Run(); err != nil {
		return nil, err
	}
	rest, err := io.ReadAll(os.Stdin)
	return fmt.Sprintf("stdin had %d bytes", len(rest)), err
}

// waitForFile says that it runs and ends when the file named in the record is
// gone, or with its context.
func waitForFile(ctx context.Context, t *Task) (any, error) {
	var name string
	if err := t.Decode(&name); err != nil {
		return nil, err
	}
	t.Progress(0, "waiting")
	for {
		if _, err := os.Stat(name); err != nil {
			return "done", nil
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// proc is a worker process and this side of its pipes.
type proc struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	in     *LineWriter
	out    *LineReader
	stderr lockedBuffer
}

// lockedBuffer is a strings.Builder that a test may read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func startWorker(tb testing.TB, role string) *proc {
	tb.Helper()
	self, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	p := &proc{cmd: exec.Command(self)}
	p.cmd.Env = append(os.Environ(), roleVariable+"="+role)
	p.cmd.Stderr = &p.stderr
	stdin, err1 := p.cmd.StdinPipe()
	stdout, err2 := p.cmd.StdoutPipe()
	if err := errors.Join(err1, err2); err != nil {
		tb.Fatal(err)
	}
	p.stdin, p.in, p.out = stdin, NewLineWriter(stdin, 0), NewLineReader(stdout, 0)
	if err := p.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		// Wait says that it has been called, if the test went well.
		if p.cmd.ProcessState == nil {
			_ = p.cmd.Process.Kill()
			_ = p.cmd.Wait()
		}
	})
	return p
}

func (p *proc) send(tb testing.TB, line string) {
	tb.Helper()
	if err := errors.Join(p.in.WriteLine([]byte(line)), p.in.Flush()); err != nil {
		tb.Fatal(err)
	}
}

func (p *proc) next(tb testing.TB) Message {
	tb.Helper()
	line, err := p.out.Next()
	for err == nil && len(line) == 0 { // P5
		line, err = p.out.Next()
	}
	if err != nil {
		tb.Fatalf("read from the worker: %v; its stderr: %s", err, p.stderr.String())
	}
	m, err := DecodeMessage(line)
	if err != nil {
		tb.Fatalf("the worker wrote %q: %v", line, err)
	}
	return m
}

func (p *proc) initialize(tb testing.TB) {
	tb.Helper()
	p.send(tb, `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":1,"sidecar":{"name":"test","version":"1"},"workerId":"w","slot":0,"processId":"p","limits":{"maxMessageBytes":16777216}}}`)
	want := `{"protocolVersion":1,"worker":{"name":"test","version":"1"},"concurrency":`
	if m := p.next(tb); !strings.HasPrefix(string(m.Result), want) {
		tb.Fatalf("P17: initialize was answered by %+v", m)
	}
}

// wait waits for the process's end and returns its exit status.
func (p *proc) wait(tb testing.TB) int {
	tb.Helper()
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		tb.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *proc) shutdown(tb testing.TB) {
	tb.Helper()
	p.send(tb, `{"jsonrpc":"2.0","method":"shutdown","params":{"budgetMs":1000}}`)
	if got := next(p.out); got.kind != "eof" {
		tb.Fatalf("after shutdown: %v", got)
	}
	if code := p.wait(tb); code != 0 {
		tb.Fatalf("P36: exit status %d after shutdown; stderr: %s", code, p.stderr.String())
	}
}

func TestProcessPrintsBreakNothing(t *testing.T) {
	p := startWorker(t, "print")
	p.initialize(t)
	p.send(t, `{"jsonrpc":"2.0","id":2,"method":"task/run","params":{"delivery":"r.1","record":{},"attempt":1}}`)
	if got, want := string(p.next(t).Result), `{"status":"succeeded","value":"stdin had 0 bytes"}`; got != want {
		t.Errorf("P14: got %s, want %s", got, want)
	}
	p.shutdown(t)
	for _, want := range []string{"a print to stdout\n", "a print to stderr\n", "a print of a child\n"} {
		if !strings.Contains(p.stderr.String(), want) {
			t.Errorf("P14: stderr is %q, want %q in it", p.stderr.String(), want)
		}
	}
}

func TestProcessDrainsOnSignals(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(sig.String(), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "running")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			run := func(id int) string {
				return fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"task/run","params":{"delivery":"r.%[1]d","record":%q}}`, id, file)
			}
			p := startWorker(t, "wait")
			p.initialize(t)
			p.send(t, run(2))
			if m := p.next(t); m.Method != MethodProgress {
				t.Fatalf("got %+v", m)
			}
			// Twice: neither cuts the task short (P40).
			for range 2 {
				if err := p.cmd.Process.Signal(sig); err != nil {
					t.Fatal(err)
				}
			}
			if m := p.next(t); m.Method != MethodDraining {
				t.Fatalf("P39: got %+v", m)
			}
			p.send(t, run(3))
			if m := p.next(t); string(m.ID) != "3" || !errors.Is(m.Error, CodeNotStarted) {
				t.Errorf("P39: a task after $/draining was answered by %+v", m)
			}
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if m := p.next(t); string(m.ID) != "2" || string(m.Result) != `{"status":"succeeded","value":"done"}` {
				t.Errorf("P40: the running task was answered by %+v", m)
			}
			p.send(t, `{"jsonrpc":"2.0","id":4,"method":"ping"}`)
			if m := p.next(t); string(m.Result) != "{}" {
				t.Errorf("P41: ping was answered by %+v", m)
			}
			p.shutdown(t)
		})
	}
}

// What was printed before without a line end is not in front of the first message.
func TestProcessThatPrintsBeforeItServes(t *testing.T) {
	p := startWorker(t, "banner")
	if _, err := p.stdin.Write([]byte(`{"jsonrpc":"2.0","id":1,"method":"ping"}` + "\n")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"loading", `{"jsonrpc":"2.0","id":1,"result":{}}`} {
		if line, err := p.out.Next(); string(line) != want || err != nil {
			t.Errorf("got %q, %v, want %q", line, err, want)
		}
	}
	p.shutdown(t)
}

// The end of stdin without shutdown is the one rule that covers a killed sidecar.
func TestProcessEndsWithStdin(t *testing.T) {
	p := startWorker(t, "hang")
	p.initialize(t)
	p.send(t, `{"jsonrpc":"2.0","id":2,"method":"task/run","params":{"delivery":"r.1","record":1}}`)
	if err := p.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if code := p.wait(t); code != 3 {
		t.Errorf("exit status %d, want the one for ErrOrphaned; stderr: %s", code, p.stderr.String())
	}
}

func TestProcessWithoutSidecar(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, stdin := range map[string]io.Reader{"a device": nil, "an empty pipe": strings.NewReader("")} {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), roleVariable+"=answer")
		cmd.Stdin = stdin
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 4 {
			t.Errorf("%s: got %v, want exit status 4", name, err)
		}
		if want := "Run it as: sidecar run -- " + self; !strings.Contains(string(out), want) {
			t.Errorf("%s: it printed %q, want %q in it", name, out, want)
		}
	}
}
