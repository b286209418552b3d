//go:build lifecycle

package lifecycle

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// listener is a service manager: what it hears on its socket.
type listener struct {
	path string
	mu   sync.Mutex
	said []string
}

func listen(t *testing.T) *listener {
	t.Helper()
	l := &listener{path: filepath.Join(t.TempDir(), "notify")}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: l.path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				return
			}
			l.mu.Lock()
			for line := range strings.SplitSeq(strings.TrimSpace(string(buf[:n])), "\n") {
				l.said = append(l.said, line)
			}
			l.mu.Unlock()
		}
	}()
	return l
}

func (l *listener) heard() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.said)
}

// hears waits for a line that begins so, after the first n lines, and returns how
// many there are up to it.
func (l *listener) hears(t *testing.T, after int, prefix string) int {
	t.Helper()
	at := -1
	wait.Until(t, "the service manager to hear "+prefix, func() bool {
		at = slices.IndexFunc(l.heard()[after:], func(line string) bool { return strings.HasPrefix(line, prefix) })
		return at >= 0
	})
	return after + at + 1
}

// A service manager hears when the sidecar is ready, how it is, that it moves (also
// while Redis is away) and that it stops; its workers hear nothing of it.
func TestServiceManager(t *testing.T) {
	t.Parallel()
	b, redis := ownBench(t)
	l := listen(t)
	s := b.sidecar("NOTIFY_SOCKET="+l.path, "WATCHDOG_USEC=1500000")
	s.ready()
	n := l.hears(t, 0, "READY=1")
	n = l.hears(t, n, "WATCHDOG=1")
	if has := proc.Marked(t, "NOTIFY_SOCKET="+l.path); len(has) != 1 {
		t.Errorf("these can speak for the sidecar: %q", has)
	}
	gate := b.gate("g")
	b.push(job{TaskID: "t", Do: "gate", Path: gate})
	b.begun(gate)
	n = l.hears(t, n, "STATUS=running: 1 of 2 tasks in flight, 2 workers")
	b.open(gate)
	n = l.hears(t, n, "STATUS=running: 0 of 2 tasks in flight")
	redis.Stop()
	n = l.hears(t, n, "STATUS=running: 0 of 2 tasks in flight, 2 workers; Redis is away")
	for range 3 {
		n = l.hears(t, n, "WATCHDOG=1")
	}
	redis.Restart()
	n = l.hears(t, n, "STATUS=running: 0 of 2 tasks in flight, 2 workers")
	s.signal(syscall.SIGTERM)
	l.hears(t, n, "STOPPING=1")
	s.exits(0, 10*time.Second)
	if ready := len(slices.DeleteFunc(l.heard(), func(line string) bool { return line != "READY=1" })); ready != 1 {
		t.Errorf("READY=1 was said %d times", ready)
	}
}
