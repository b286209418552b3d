package serverproc_test

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redisserver/serverproc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/machine"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/graflow/graflow-sidecar/sidecar/internal/redisserver/serverproc.spawnLoop"))
}

func start(t *testing.T, opts serverproc.Options) (*serverproc.Process, error) {
	t.Helper()
	opts.Dir = t.TempDir()
	p, err := serverproc.Start(t.Context(), opts)
	if err == nil {
		t.Cleanup(p.Kill)
	}
	return p, err
}

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestStartAndStop(t *testing.T) {
	var mu sync.Mutex
	var lines []string
	p, err := start(t, serverproc.Options{Output: func(l string) {
		mu.Lock()
		defer mu.Unlock()
		lines = append(lines, l)
	}})
	if err != nil {
		t.Fatal(err)
	}
	if pgid, err := syscall.Getpgid(p.Pid()); err != nil || pgid != p.Pid() {
		t.Errorf("process group %d, %v; want its own (%d)", pgid, err, p.Pid())
	}
	if err := p.Stop(within(t, 10*time.Second)); err != nil {
		t.Error(err)
	}
	select {
	case <-p.Done():
	default:
		t.Error("Stop returned before the server was gone")
	}
	if err := p.Err(); err != nil {
		t.Errorf("Err after Stop: %v", err)
	}
	if err := p.Stop(within(t, time.Second)); err != nil {
		t.Errorf("a second Stop: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if !strings.Contains(strings.Join(lines, "\n"), "ready to exit") {
		t.Errorf("output not read to its end: %q", lines)
	}
}

func TestStopKillsAtTheEndOfItsContext(t *testing.T) {
	p, err := start(t, serverproc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	// The server may still win the race against the kill; then there is
	// nothing to report.
	if err := p.Stop(ctx); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("Stop: %v", err)
	}
	<-p.Done()
}

func TestUnexpectedDeathIsReported(t *testing.T) {
	p, err := start(t, serverproc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Err(); err != nil {
		t.Errorf("Err while it runs: %v", err)
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("Done never closed")
	}
	if err := p.Err(); err == nil || !strings.Contains(err.Error(), "unexpectedly") || !strings.Contains(err.Error(), "killed") {
		t.Errorf("Err: %v", err)
	}
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("a signal to a dead server: %v", err)
	}
}

func TestStartErrors(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	busy := taken.Addr().(*net.TCPAddr).Port

	for _, c := range []struct {
		name string
		opts serverproc.Options
		want string
	}{
		{"unknown setting", serverproc.Options{Args: []string{"--no-such-setting", "1"}}, "Bad directive"},
		{"no such binary", serverproc.Options{Binary: "/nonexistent/redis-server"}, "no such file"},
		{"not a Redis", serverproc.Options{Binary: "/bin/false"}, "ended at once"},
		{"port taken", serverproc.Options{Port: busy}, "address already in use"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := start(t, c.opts); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v; want it to hold %q", err, c.want)
			}
		})
	}
}

func TestStartGivesUpAtTheEndOfItsContext(t *testing.T) {
	script := t.TempDir() + "/silent"
	if err := os.WriteFile(script, []byte("#!/bin/sh\nsleep 60 & wait\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	began, clock := time.Now(), machine.Watch(t)
	_, err := serverproc.Start(within(t, 200*time.Millisecond), serverproc.Options{Binary: script, Dir: t.TempDir()})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v", err)
	}
	if d := clock.Since(began); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestPasswordStaysOffTheCommandLine(t *testing.T) {
	p, err := start(t, serverproc.Options{Args: []string{"--requirepass", `s3cret"\`}})
	if err != nil {
		t.Fatal(err)
	}
	line, err := os.ReadFile("/proc/" + strconv.Itoa(p.Pid()) + "/cmdline")
	if err != nil || strings.Contains(string(line), "s3cret") {
		t.Errorf("command line %q, %v", line, err)
	}
	env, err := os.ReadFile("/proc/" + strconv.Itoa(p.Pid()) + "/environ")
	if err != nil || strings.Contains(string(env), "HOME=") {
		t.Errorf("environment %q, %v", env, err)
	}
}

// TestAStartThatFailsForAReasonThatPasses is tried again: a package manager writes to
// the binary, or a script around it finds that so.
func TestAStartThatFailsForAReasonThatPasses(t *testing.T) {
	binary, err := serverproc.Find()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		block func(t *testing.T, path string) (release func())
	}{
		{"the file is being written to", func(t *testing.T, path string) func() {
			program, err := os.ReadFile(binary)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, program, 0o700); err != nil {
				t.Fatal(err)
			}
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			return func() { _ = f.Close() }
		}},
		{"a script says so", func(t *testing.T, path string) func() {
			script := "#!/bin/sh\n[ -e \"" + path + ".ok\" ] || { echo 'redis-server: Text file busy' >&2; exit 126; }\nexec " + binary + " \"$@\"\n"
			if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
				t.Fatal(err)
			}
			return func() { _ = os.WriteFile(path+".ok", nil, 0o600) }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := t.TempDir() + "/server"
			release := c.block(t, path)
			waits := 0
			p, err := start(t, serverproc.Options{Binary: path, Waiting: func(error) {
				waits++
				release()
			}})
			if err != nil {
				release()
				t.Fatal(err)
			}
			if waits != 1 || p.Pid() == 0 {
				t.Errorf("told %d times that the start is tried again", waits)
			}
		})
	}
	t.Run("until its context ends", func(t *testing.T) {
		path := t.TempDir() + "/server"
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho 'x: Text file busy'; exit 126\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		_, err := serverproc.Start(ctx, serverproc.Options{Binary: path, Dir: t.TempDir(), Waiting: func(error) { cancel() }})
		if err == nil || !strings.Contains(err.Error(), "Text file busy") {
			t.Errorf("error %v", err)
		}
	})
}
