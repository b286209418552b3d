//go:build lifecycle

package lifecycle

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// noted reads a process id that a script has written to a file.
func noted(t *testing.T, file string) (pid string) {
	t.Helper()
	wait.Until(t, filepath.Base(file), func() bool {
		text, err := os.ReadFile(file)
		pid = strings.TrimSpace(string(text))
		return err == nil && strings.HasSuffix(string(text), "\n")
	})
	return pid
}

// stat is a process's state and its parent.
func stat(pid string) (state, parent string) {
	text, _ := os.ReadFile("/proc/" + pid + "/stat")
	_, after, _ := strings.Cut(string(text), ") ")
	if fields := strings.Fields(after); len(fields) > 1 {
		return fields[0], fields[1]
	}
	return "", ""
}

// zombiesOf counts the ended processes that a process has not waited for.
func zombiesOf(pid int) (n int) {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		if state, parent := stat(filepath.Base(filepath.Dir(file))); state == "Z" && parent == strconv.Itoa(pid) {
			n++
		}
	}
	return n
}

// escape has a task leave a process behind in a session of its own; it returns
// that process and the worker.
func (b *bench) escape(name string) (escapee, worker string) {
	b.t.Helper()
	out := b.gate(name)
	b.push(job{TaskID: name, Do: "shell", Path: fmt.Sprintf(
		`echo $PPID > %[1]s.worker; setsid sh -c 'echo $$ > %[1]s.escapee; exec sleep 600' &`, out)})
	escapee, worker = noted(b.t, out+".escapee"), noted(b.t, out+".worker")
	wait.Until(b.t, "the task's end", func() bool { return b.done(name) })
	return escapee, worker
}

// TestNothingThatAWorkerLeftBehindOutlivesIt, whether it is replaced, killed or
// stopped, and no zombie stays.
func TestNothingThatAWorkerLeftBehindOutlivesIt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := b.sidecar("MAX_CONCURRENT_TASKS=1")

	escapee, _ := b.escape("replaced")
	if _, parent := stat(escapee); parent != strconv.Itoa(s.cmd.Process.Pid) {
		t.Errorf("its parent is %s and not the sidecar", parent)
	}
	s.signal(syscall.SIGHUP)
	wait.Until(t, "its end with the replaced worker", func() bool { return !proc.Alive(escapee) })

	escapee, worker := b.escape("killed")
	pid, err := strconv.Atoi(worker)
	if err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	wait.Until(t, "its end with the killed worker", func() bool { return !proc.Alive(escapee) })

	for i := range 20 { // these end by themselves, and while the worker lives
		b.push(job{TaskID: fmt.Sprint("brief", i), Do: "shell", Path: "(setsid true &) ; (setsid sleep 0.01 &)"})
	}
	wait.Until(t, "the brief ones", func() bool { return b.done("brief19") })
	wait.Until(t, "all of them to be reaped", func() bool { return zombiesOf(s.cmd.Process.Pid) == 0 })

	b.escape("stopped")
	s.terminate(3 * time.Second) // nothing is left, it says
	s.silent()
}

// TestSIGKILLOfTheSidecarEndsItsWorkers: and what no parent-death signal reaches
// is what docs/processes.md says.
func TestSIGKILLOfTheSidecarEndsItsWorkers(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := b.sidecar("MAX_CONCURRENT_TASKS=1")
	escapee, worker := b.escape("e")
	_ = s.cmd.Process.Kill()
	<-s.done
	wait.Until(t, "the worker's end", func() bool { return !proc.Alive(worker) })
	if !proc.Alive(escapee) {
		t.Error("what left the group ended, too: the documents say that it does not")
	}
	pid, err := strconv.Atoi(escapee)
	if err != nil {
		t.Fatal(err)
	}
	_ = syscall.Kill(pid, syscall.SIGKILL)
	wait.Until(t, "the escapee's end", func() bool { return len(proc.Marked(t, s.mark)) == 0 })
}

// lookAround is a worker that first notes what it was given. (In a subshell: the
// shell keeps its own stdout open beside one that it redirects.)
const lookAround = `(ls /proc/$$/fd > "$0.fds"); exec "$1" worker`

// secret is what every value has that no worker may see.
const secret = "s3kr1t"

// secrets are variables with such values.
func secrets(spool string) []string {
	return []string{
		"REDIS_SENTINEL_PASSWORD=" + secret, "REDIS_TLS_URL=rediss://:" + secret + "@h", "REDISCLI_AUTH=" + secret,
		"OTEL_EXPORTER_OTLP_HEADERS=key=" + secret, "OTEL_EXPORTER_OTLP_METRICS_HEADERS=key=" + secret,
		"SIDECAR_SPOOL_DIR=" + spool, "LISTEN_FDNAMES=" + secret, "NOTIFY_SOCKET=/run/" + secret,
	}
}

// see returns what the processes of a sidecar, and not itself, were given in
// environment and command line.
func (s *sidecar) see() (given string) {
	s.t.Helper()
	self := strconv.Itoa(s.cmd.Process.Pid)
	for _, process := range proc.Marked(s.t, s.mark) {
		pid, _, _ := strings.Cut(process, " ")
		env, _ := os.ReadFile("/proc/" + pid + "/environ")
		cmdline, _ := os.ReadFile("/proc/" + pid + "/cmdline")
		if pid != self {
			given += string(env) + string(cmdline)
		} else if !strings.Contains(string(env), secret) {
			s.t.Error("the sidecar itself was not given the secrets")
		}
	}
	if !strings.Contains(given, "SIDECAR_PROCESS_ID=") {
		s.t.Error("no worker was seen")
	}
	return given
}

// TestAWorkerIsGivenNothingElse than its streams and an environment without
// secrets, whatever the sidecar was started with.
func TestAWorkerIsGivenNothingElse(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--requirepass", secret)
	b := &bench{t: t, addr: server.Addr, prefix: "life", dir: t.TempDir(), binary: sidecarBinary}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	stray, _, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stray.Close()
	spool := filepath.Join(t.TempDir(), secret)
	if err := os.Mkdir(spool, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		env   []string
		given string // of the secret ones
	}{
		{"password", []string{"REDIS_PASSWORD=" + secret}, ""},
		{"URL", []string{"REDIS_URL=redis://:" + secret + "@" + server.Addr + "/0"}, ""},
		{"allowed", []string{"REDIS_PASSWORD=" + secret, "SIDECAR_CHILD_ENV=REDIS_PASSWORD"}, "REDIS_PASSWORD=" + secret},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "seen")
			b := &bench{t: t, addr: b.addr, prefix: "life", dir: b.dir, binary: b.binary}
			s := b.start([]string{"--", "/bin/sh", "-c", lookAround, out, self}, []*os.File{stray, stray, stray},
				append(append(secrets(spool), "MAX_CONCURRENT_TASKS=1"), c.env...)...)
			s.ready()
			fds, err := os.ReadFile(out + ".fds")
			if got := strings.Fields(string(fds)); !slices.Equal(got, []string{"0", "1", "2"}) {
				t.Errorf("its descriptors are %v (%v)", got, err)
			}
			var seen []string
			for entry := range strings.SplitSeq(s.see(), "\x00") {
				if strings.Contains(entry, secret) && !slices.Contains(seen, entry) {
					seen = append(seen, entry)
				}
			}
			if got := strings.Join(seen, " "); got != c.given {
				t.Errorf("it was given %q, want %q", got, c.given)
			}
			s.terminate(2 * time.Second)
		})
	}
}

// TestAGraflowWorkerIsGivenTheAdapterAndRedis and no more, but for variables that are
// the user's own.
func TestAGraflowWorkerIsGivenTheAdapterAndRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--requirepass", secret)
	b := &bench{t: t, addr: server.Addr, prefix: "life", dir: t.TempDir(), binary: sidecarBinary}
	out := b.gate("seen")
	python := b.gate("python")
	script := fmt.Sprintf("#!/bin/sh\n(ls /proc/$$/fd > %[1]s.fds); (readlink /proc/$$/fd/3 > %[1]s.fd3); exec sleep 600\n", out)
	if err := os.WriteFile(python, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	stray, _, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stray.Close()
	spool := filepath.Join(t.TempDir(), secret)
	if err := os.Mkdir(spool, 0o700); err != nil {
		t.Fatal(err)
	}
	s := b.start([]string{"--graflow"}, []*os.File{stray, stray}, append(secrets(spool),
		"REDIS_PASSWORD="+secret, "SIDECAR_PYTHON="+python, "SIDECAR_PREFORK=false", "MAX_CONCURRENT_TASKS=1")...)
	if adapter := noted(t, out+".fd3"); !strings.Contains(adapter, "memfd:graflow_sidecar.zip") {
		t.Errorf("its descriptor 3 is %s", adapter)
	}
	fds, err := os.ReadFile(out + ".fds")
	// The shell has its script open, and closes it when it executes something.
	got := slices.DeleteFunc(strings.Fields(string(fds)), func(fd string) bool { return fd == "10" })
	if !slices.Equal(got, []string{"0", "1", "2", "3"}) {
		t.Errorf("its descriptors are %v (%v)", got, err)
	}
	var names []string
	for entry := range strings.SplitSeq(s.see(), "\x00") {
		if name, value, _ := strings.Cut(entry, "="); strings.Contains(value, secret) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	if want := []string{"REDISCLI_AUTH", "REDIS_PASSWORD", "REDIS_TLS_URL", "REDIS_URL"}; !slices.Equal(names, want) {
		t.Errorf("secrets are in %v, want them in %v", names, want)
	}
	s.terminate(3 * time.Second)
}

// TestAsProcess1: the binary is its own init in a PID namespace, as in a container. A
// stop signal to the init stops the sidecar, and all other processes end with the
// sidecar.
func TestAsProcess1(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		sig    syscall.Signal
		toInit bool
		status int
	}{
		{"a stop", syscall.SIGTERM, true, 0},
		{"the sidecar is killed", syscall.SIGKILL, false, 137},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			binary, err := sidecarBinary()
			if err != nil {
				t.Fatal(err)
			}
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			id := fmt.Sprintf("life-%d-init-%d", os.Getpid(), serial.Add(1))
			log := &testlog.Buffer{}
			cmd := exec.Command("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", binary, "run", "--", self, "worker")
			cmd.Env = append(proc.Env("TMPDIR"), "WORKER_ID="+id, "REDIS_URL=redis://"+b.addr+"/0", "REDIS_KEY_PREFIX="+b.prefix,
				"MAX_CONCURRENT_TASKS=1", "SIDECAR_LOG_FORMAT=json", "LIFECYCLE_MARK="+id)
			cmd.Stdout, cmd.Stderr = log, log
			if err := proc.Start(cmd); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				if t.Failed() {
					t.Logf("it wrote:\n%s", log)
				}
			})
			wait.Until(t, "it to be ready", func() bool { return strings.Contains(log.String(), "sidecar is ready") })
			first := onlyChild(t, cmd.Process.Pid)
			sidecar := onlyChild(t, first)
			out := b.gate("escapee")
			b.push(job{TaskID: "e", Do: "shell", Path: "setsid sh -c 'echo up > " + out + "; exec sleep 600' & (setsid true &)"})
			noted(t, out)
			wait.Until(t, "zombies to be reaped", func() bool { return zombiesOf(first)+zombiesOf(sidecar) == 0 && b.done("e") })
			target := sidecar
			if c.toInit {
				target = first
			}
			if err := syscall.Kill(target, c.sig); err != nil {
				t.Fatal(err)
			}
			if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != c.status {
				t.Errorf("it ended with %v, want status %d", cmd.ProcessState, c.status)
			}
			if c.toInit && !strings.Contains(log.String(), "sidecar stopped") {
				t.Error("the sidecar did not stop in its own way")
			}
			if left := proc.Marked(t, "LIFECYCLE_MARK="+id); len(left) > 0 {
				t.Errorf("processes left over: %v", left)
			}
		})
	}
}

// onlyChild is the process that another one has started.
func onlyChild(t *testing.T, pid int) (child int) {
	t.Helper()
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range files {
		id := filepath.Base(filepath.Dir(file))
		if _, parent := stat(id); parent == strconv.Itoa(pid) {
			if child != 0 {
				t.Errorf("process %d has several children", pid)
			}
			child, _ = strconv.Atoi(id)
		}
	}
	if child == 0 {
		t.Fatalf("process %d has no child", pid)
	}
	return child
}
