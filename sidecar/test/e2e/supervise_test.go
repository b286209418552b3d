//go:build e2e

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// supervise starts a sidecar that keeps a program running.
func (b *bench) supervise(replicas int, command []string, env ...string) *worker {
	b.t.Helper()
	args := append([]string{"--mode", "supervise", "--replicas", strconv.Itoa(replicas), "--"}, command...)
	return b.sidecar(setup{args: args, env: env})
}

// embedded is a bench whose Redis the sidecar will own, on a port that was free
// a moment ago.
func embedded(t *testing.T) *bench {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	client := redis.NewClient(&redis.Options{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))})
	t.Cleanup(func() { _ = client.Close() })
	return &bench{t: t, server: redistest.Server{Host: "127.0.0.1", Port: port}, redis: client, prefix: "graflow"}
}

// What this project began with: a local Redis and Graflow's own workers, one
// command to start them and one signal to stop them, and no worker that is left
// without its Redis.
func TestSuperviseIsACompleteLocalSetUp(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it is one of the workers here")
	b := embedded(t)
	w := b.supervise(2, []string{producerPython(t), "-m", "graflow.worker.main"}, "REDIS_URL=embedded")
	wait.Until(b.t, "the sidecar being ready", func() bool { return strings.Contains(w.log.String(), "sidecar is ready") })
	wait.Until(b.t, "both loops", func() bool { return strings.Count(w.log.String(), "Worker loop started") == 2 })

	const n = 40
	share := map[string]int{}
	var got struct{ Results []int }
	b.report(&got, "once.py", strconv.Itoa(n), b.key("marks"))
	for i := range n {
		equal(t, "a result", got.Results[i], i)
	}
	for _, mark := range b.list(b.key("marks")) {
		share[strings.Fields(mark)[2]]++
	}
	if len(share) != 2 || share[w.id+"-0"]+share[w.id+"-1"] != n {
		t.Errorf("who worked: %v", share)
	}
	if keys := b.redis.Keys(t.Context(), b.key("sidecar", "*")).Val(); len(keys) > 0 {
		t.Errorf("a sidecar that only supervises has keys of its own: %v", keys)
	}

	w.signal(syscall.SIGTERM)
	equal(t, "exit status", w.wait(), 0)
	if left := proc.Marked(t, w.mark); len(left) > 0 {
		t.Errorf("left over: %v", left)
	}
	stopped := 0
	for _, line := range w.lines() {
		for _, bad := range []string{"Traceback", "Connection refused", "Connection closed", "Bad file descriptor", "closed file", "ConnectionError", "Error in worker loop"} {
			if strings.Contains(line.text, bad) {
				t.Errorf("a worker outlived its Redis: %s", line.text)
			}
		}
		if line.Level == "WARN" || line.Level == "ERROR" || line.Level == atExit {
			t.Errorf("the sidecar complains: %s", line.text)
		}
		if strings.Contains(line.text, "Worker stopped: "+w.id+"-") {
			stopped++
		}
	}
	equal(t, "workers that stopped by themselves", stopped, 2)
}

// A worker that dies is started again, and SIGHUP replaces all of them.
func TestSuperviseRestarts(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it is not supervised")
	b := newBench(t)
	pids := filepath.Join(t.TempDir(), "pids")
	w := b.supervise(2, []string{shell(t, `
echo "$WORKER_ID $$ $REDIS_HOST:$REDIS_PORT $REDIS_KEY_PREFIX $MAX_CONCURRENT_TASKS" >>`+pids+`
echo out; echo err >&2
while :; do sleep 0.05; done`)})
	started := func() (lines []string) {
		text, _ := os.ReadFile(pids)
		return strings.Split(strings.TrimSpace(string(text)), "\n")
	}
	ready := func() bool { return strings.Contains(w.log.String(), "sidecar is ready") }
	wait.Until(b.t, "being ready", ready)
	first := started()
	equal(t, "starts", len(first), 2)
	for _, line := range first {
		want := fmt.Sprintf("%s:%d %s 2", b.server.Host, b.server.Port, b.prefix)
		if words := strings.SplitN(line, " ", 3); !strings.HasPrefix(words[0], w.id+"-") || words[2] != want {
			t.Errorf("%s, want %s", line, want)
		}
	}
	pid, err := strconv.Atoi(strings.Fields(first[0])[1])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	wait.Until(b.t, "a restart", func() bool { return len(started()) == 3 })
	equal(t, "whose place it has", strings.Fields(started()[2])[0], strings.Fields(first[0])[0])
	wait.Until(b.t, "the reason", func() bool { return strings.Contains(w.log.String(), "it was killed by SIGKILL") })
	w.signal(syscall.SIGHUP)
	wait.Until(b.t, "both replaced", func() bool { return strings.Contains(w.log.String(), "workers are replaced") })
	equal(t, "starts", len(started()), 5)
	w.stop()
	out := 0
	for _, line := range w.lines() {
		if strings.Contains(line.text, `"msg":"worker stdout","replica":`) && strings.Contains(line.text, `"line":"out"`) {
			out++
		}
	}
	equal(t, "lines on stdout", out, 5)
}

// It starts nothing while Redis is away, and is told so once; what never stays up
// ends it with what was seen.
func TestSuperviseWithoutRedisAndWithoutAProgram(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it is not supervised")
	b := embedded(t) // and the test does not start that Redis
	w := b.supervise(3, []string{"sleep", "600"})
	wait.Until(b.t, "a line that says that it waits", func() bool { return strings.Contains(w.log.String(), "redis is lost, waiting for it") })
	// A few more attempts, seen from the other side.
	l, err := net.Listen("tcp", net.JoinHostPort(b.server.Host, strconv.Itoa(b.server.Port)))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
	_ = l.Close()
	equal(t, "lines that say so", strings.Count(w.log.String(), "redis is lost, waiting for it"), 1)
	equal(t, "starts", strings.Count(w.log.String(), "worker started"), 0)
	w.signal(syscall.SIGTERM)
	equal(t, "exit status", w.wait(), 0)

	for name, c := range map[string]struct {
		command []string
		words   []string
	}{
		"no module":  {[]string{producerPython(t), "-m", "no.such.module"}, []string{"no.such.module", "exited with status 1", "No module named 'no'"}},
		"absent":     {[]string{"/nonexistent/worker"}, []string{"/nonexistent/worker", "does not exist"}},
		"it is done": {[]string{"/bin/true"}, []string{"/bin/true", "exited with status 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			w := b.supervise(1, c.command, "SIDECAR_START_RETRIES=1")
			equal(t, "exit status", w.wait(), 70)
			lines := w.lines()
			for _, word := range c.words {
				if text := lines[len(lines)-1].text; !strings.HasPrefix(text, "sidecar: ") || !strings.Contains(text, word) {
					t.Errorf("the last line does not say %q: %s", word, text)
				}
			}
			if left := proc.Marked(t, w.mark); len(left) > 0 {
				t.Errorf("left over: %v", left)
			}
		})
	}
}
