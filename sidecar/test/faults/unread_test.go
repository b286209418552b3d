//go:build faults

package faults

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// TestALogThatStalls has two sidecars whose log has a reader that does not read. One goes on:
// its tasks run and are reported, a worker that dies is replaced, and it stops as usual. The
// other one crashes: it ends, and its tasks run in the first one.
func TestALogThatStalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	stalls := setup{stderr: out, env: append([]string{"SIDECAR_SHUTDOWN_TIMEOUT=5s"}, eager...)}
	s, crashes := w.start(stalls), w.start(stalls)
	w.group(w.work(8, 20)...)
	w.settle(20 * time.Second)
	fillUp(t, out)
	_ = out.Close()
	w.hurt("the logs of " + s.id + " and " + crashes.id + " are not read")
	for range 3 {
		w.group(w.work(30, 20)...)
		w.settle(20 * time.Second)
	}
	long := record{Ms: 2000}
	w.group(long, long, long, long)
	wait.Within(t, 10*time.Second, "a task in flight", func() bool {
		held, err := w.heldBy(crashes.id)
		return err == nil && len(held) > 0
	})
	w.hurt("a crash of the runtime, while the log is not read")
	crashes.signal(syscall.SIGABRT)
	wait.Within(t, 10*time.Second, crashes.id+" has ended", crashes.over)
	w.settle(30 * time.Second)
	w.verify("a log that is not read") // stops the first one and expects status 0
}

// TestAFloodOfConnections opens 10,000 idle connections to the HTTP address. They take neither
// descriptors from the claims nor 10 MB of memory, and a probe gets an answer. The test sets
// GOGC so that the heap does not grow for other reasons in a busy sidecar.
func TestAFloodOfConnections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	addr := freeAddr(t)
	s := w.start(setup{env: append([]string{"SIDECAR_HTTP_ADDR=" + addr, "MAX_CONCURRENT_TASKS=2", "GOGC=50"}, eager...)})
	w.group(w.work(40, 5)...)
	w.settle(20 * time.Second)
	before := anonymous(t, s.pid())
	w.hurt("a flood of connections to " + s.id)
	held := make([]net.Conn, 0, 10_000)
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for range cap(held) {
		c, err := net.DialTimeout("tcp", addr, 10*time.Second)
		if err != nil {
			t.Fatalf("after %d connections: %v", len(held), err)
		}
		held = append(held, c)
		_, _ = io.WriteString(c, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n") // it may be closed already
	}
	w.group(w.work(40, 5)...)
	w.settle(20 * time.Second)
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get("http://" + addr + "/livez")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.pid()))
	more := anonymous(t, s.pid()) - before
	t.Logf("%d descriptors, %d KiB more", len(files), more>>10)
	if builtWithRace() {
		more = 0
	}
	if err != nil || len(files) > 400 || more > 10<<20 {
		t.Errorf("%d descriptors, %d KiB more, %v", len(files), more>>10, err)
	}
	w.verify("10,000 idle connections to the HTTP address")
}

// builtWithRace reports whether the sidecar has the race detector, which takes several times
// the memory of the sidecar.
func builtWithRace() bool { return strings.Contains(os.Getenv("FAULT_BUILDFLAGS"), "-race") }

// metric reads one number from a sidecar's metrics.
func metric(t *testing.T, addr, name string) float64 {
	t.Helper()
	client := http.Client{Timeout: 10 * time.Second}
	answer, err := client.Get("http://" + addr + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// freeAddr returns a loopback address without a listener.
func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// anonymous returns the anonymous memory of a process. It does not count pages of the
// program's file, which the system can reclaim at any time.
func anonymous(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	var kib int64
	_, after, _ := strings.Cut(string(status), "RssAnon:")
	if _, err := fmt.Sscan(after, &kib); err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// fillUp writes to a pipe until it is full.
func fillUp(t *testing.T, out *os.File) {
	t.Helper()
	fd := int(out.Fd())
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{4096, 1} {
		var err error
		for err == nil {
			_, err = syscall.Write(fd, make([]byte, size))
		}
		if !errors.Is(err, syscall.EAGAIN) {
			t.Fatal(err)
		}
	}
	if err := syscall.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
}
