//go:build lifecycle

package lifecycle

import (
	"bufio"
	"encoding/json"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// embedded starts a sidecar that owns its Redis, and waits until both are up.
func embedded(t *testing.T, env ...string) (*bench, *sidecar) {
	t.Helper()
	b := &bench{t: t, prefix: "life", dir: t.TempDir(), binary: sidecarBinary}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := b.start([]string{"--ready-fd", "3", "--", self, "worker"}, []*os.File{w}, append(env, "REDIS_URL=embedded")...)
	_ = w.Close()
	if err := r.SetReadDeadline(time.Now().Add(wait.Patience)); err != nil {
		t.Fatal(err)
	}
	var ready struct {
		RedisURL string `json:"redis_url"`
	}
	if err := json.NewDecoder(r).Decode(&ready); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(ready.RedisURL)
	if err != nil {
		t.Fatal(err)
	}
	b.addr = u.Host
	b.rdb = newClient(t, b.addr)
	return b, s
}

// witness is what a connection of the test's own to the sidecar's Redis saw.
type witness struct {
	commands []string  // all that Redis was told
	end      time.Time // of the connection: Redis is gone
	workers  []string  // that were there at that time
}

// watch has Redis show everything until it ends.
func watch(t *testing.T, addr, mark string) <-chan witness {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("MONITOR\r\n")); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() || lines.Text() != "+OK" {
		t.Fatalf("MONITOR: %q", lines.Text())
	}
	seen := make(chan witness, 1)
	go func() {
		defer conn.Close()
		var w witness
		for lines.Scan() {
			w.commands = append(w.commands, lines.Text())
		}
		w.end = time.Now()
		for _, p := range proc.Marked(t, mark) {
			// (The sidecar's own command line names its worker, too.)
			if strings.Contains(p, " worker ") && !strings.Contains(p, " run ") {
				w.workers = append(w.workers, p)
			}
		}
		seen <- w
	}()
	return seen
}

// stages lists the stages of a debug log in the order in which they stopped.
func (s *sidecar) stages() (order []string) {
	for text := range strings.Lines(s.log.String()) {
		var l struct{ Msg, Stage string }
		if json.Unmarshal([]byte(text), &l) == nil && l.Msg == "stage has stopped" {
			order = append(order, l.Stage)
		}
	}
	return order
}

var stopOrder = []string{"stop", "claim", "dispatch", "process", "report", "lease", "leave", "health", "admin", "redis", "local redis"}

// TestProperShutdownSequence is the first point of the analysis: workers stop
// first, their tasks are awaited and reported, then the connections close, and
// Redis stops last. A client of that Redis looks on.
func TestProperShutdownSequence(t *testing.T) {
	t.Parallel()
	b, s := embedded(t, "LOG_LEVEL=DEBUG")
	gate := b.gate("gate")
	b.push(job{TaskID: "running", Do: "gate", Path: gate})
	b.begun(gate)
	seen := watch(t, b.addr, s.mark)
	s.signal(syscall.SIGTERM)
	wait.Pass(300 * time.Millisecond)
	select {
	case <-seen:
		t.Fatal("redis ended while a task was running")
	default:
	}
	opened := time.Now()
	b.open(gate)
	s.exits(0, 3*time.Second)
	w := <-seen
	t.Logf("redis ended %v after the last task", w.end.Sub(opened))
	if len(w.workers) > 0 {
		t.Errorf("redis ended while workers were there: %v", w.workers)
	}
	reported, left := -1, -1
	for i, c := range w.commands {
		switch {
		case strings.Contains(c, "running.__result__"):
			reported = i
		case strings.Contains(strings.ToUpper(c), `"SREM" "LIFE:SIDECAR:RUNS"`), strings.Contains(strings.ToUpper(c), `"SMOVE" "LIFE:SIDECAR:RUNS"`):
			left = i
		}
	}
	if reported < 0 || left < reported {
		t.Errorf("the result was told at %d and the run left at %d of %d:\n%s", reported, left, len(w.commands), strings.Join(w.commands, "\n"))
	}
	if got := s.stages(); !slices.Equal(got, stopOrder) {
		t.Errorf("the stages stopped in the order %v", got)
	}
	s.silent()
}

// TestContextManagerPattern is its fourth point for the command: one process that
// starts Redis and workers, and ends with both gone, also when it fails.
// (sidecar/app and the Python package have tests of the same name.)
func TestContextManagerPattern(t *testing.T) {
	t.Parallel()
	gone := func(t *testing.T, b *bench) {
		t.Helper()
		if conn, err := net.Dial("tcp", b.addr); err == nil {
			_ = conn.Close()
			t.Error("its redis still listens")
		}
	}
	t.Run("stopped", func(t *testing.T) {
		t.Parallel()
		b, s := embedded(t)
		b.push(jobs(names("t", 20)...)...)
		wait.Until(t, "every result", func() bool { return b.done(names("t", 20)...) })
		s.terminate(2 * time.Second)
		gone(t, b)
		s.silent()
	})
	t.Run("its redis dies", func(t *testing.T) {
		t.Parallel()
		b, s := embedded(t, "LOG_LEVEL=DEBUG", "SIDECAR_SHUTDOWN_TIMEOUT=3s")
		gate := b.gate("gate")
		b.push(job{TaskID: "running", Do: "gate", Path: gate})
		b.begun(gate)
		info := b.rdb.InfoMap(t.Context(), "server").Val()["Server"]
		s.signalled = time.Now()
		if err := syscall.Kill(number(t, info["process_id"]), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		b.open(gate)
		s.exits(69, 4*time.Second)
		gone(t, b)
		if got := s.stages(); !slices.Equal(got, stopOrder) {
			t.Errorf("the stages stopped in the order %v", got)
		}
		if found := noise.FindString(s.log.String()); found != "" {
			t.Errorf("the log has %q", found)
		}
	})
	t.Run("its worker does not start", func(t *testing.T) {
		t.Parallel()
		b := &bench{t: t, prefix: "life", dir: t.TempDir(), binary: sidecarBinary}
		s := b.start([]string{"--", "false"}, nil, "REDIS_URL=embedded", "SIDECAR_START_RETRIES=1")
		s.signalled = time.Now()
		s.exits(70, 10*time.Second)
		if found := noise.FindString(s.log.String()); found != "" {
			t.Errorf("the log has %q", found)
		}
	})
}
