//go:build lifecycle

package lifecycle

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// unread is the write end of a pipe that is full and whose reader stays and does
// not read.
func unread(t *testing.T) *os.File {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	fd := int(w.Fd()) // which makes it blocking
	if err := syscall.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{4096, 1} {
		for err = error(nil); err == nil; {
			_, err = syscall.Write(fd, make([]byte, size))
		}
		if !errors.Is(err, syscall.EAGAIN) {
			t.Fatal(err)
		}
	}
	if err := syscall.SetNonblock(fd, false); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestALogThatIsNotRead costs its lines: tasks are run and a stop is as quick as
// ever, with the second that the last lines are offered for.
func TestALogThatIsNotRead(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := b.launch(unread(t), "LOG_LEVEL=DEBUG")
	ids := names("t", 200)
	b.push(jobs(ids...)...)
	wait.Until(t, "every result", func() bool { return b.done(ids...) })
	s.signal(syscall.SIGHUP)
	s.signal(syscall.SIGQUIT)
	b.push(job{TaskID: "after"})
	wait.Until(t, "one more result", func() bool { return b.done("after") })
	s.terminate(3 * time.Second)
	if left := b.leftovers(); len(left) > 0 {
		t.Errorf("keys left over: %v", left)
	}
}

// TestSignalsAfterTheLastStage: the process waits a second for the reader of its log, and
// a signal that comes then does not make a death of a good end.
func TestSignalsAfterTheLastStage(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := b.launch(unread(t), "LOG_LEVEL=DEBUG")
	b.push(job{TaskID: "a"})
	wait.Until(t, "a result", func() bool { return b.done("a") })
	s.signal(syscall.SIGTERM)
	wait.Until(t, "its end", func() bool {
		s.signal(syscall.SIGTERM)
		return s.over()
	})
	s.exits(0, 3*time.Second)
}

// TestACrashWhileTheLogIsNotRead: a crash of the Go runtime, which writes its stack to
// stderr with the world stopped, ends the process and its workers.
func TestACrashWhileTheLogIsNotRead(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := b.launch(unread(t), "LOG_LEVEL=DEBUG")
	b.push(job{TaskID: "a"})
	wait.Until(t, "a result", func() bool { return b.done("a") })
	s.signal(syscall.SIGABRT) // the runtime's own: nothing here handles it
	s.exits(exitCrash, 10*time.Second)
}

// TestAFullDiskUnderTheLog: every write fails, and nothing else does.
func TestAFullDiskUnderTheLog(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	b := newBench(t)
	s := b.launch(full, "LOG_LEVEL=DEBUG")
	ids := names("t", 50)
	b.push(jobs(ids...)...)
	wait.Until(t, "every result", func() bool { return b.done(ids...) })
	s.terminate(2 * time.Second)
}

// TestTheWatchdogEndsAStopThatHangsInAStage, a second after the budget and with all
// processes, also when the log is not read.
func TestTheWatchdogEndsAStopThatHangsInAStage(t *testing.T) {
	t.Parallel()
	for _, stage := range []string{"redis", "process", "claim"} {
		t.Run(stage, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.binary = breakableBinary
			hang := filepath.Join(t.TempDir(), "hang")
			s := b.launch(unread(t), "LIFECYCLE_HANG="+stage+"="+hang, "SIDECAR_SHUTDOWN_TIMEOUT=2s")
			b.push(job{TaskID: "a"})
			wait.Until(t, "the first result", func() bool { return b.done("a") })
			gate := b.gate("gate")
			b.push(job{TaskID: "b", Do: "gate", Path: gate})
			b.begun(gate)
			if err := os.WriteFile(hang, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			b.open(gate)
			b.push(job{TaskID: "c"})
			wait.Pass(300 * time.Millisecond)
			s.signal(syscall.SIGTERM)
			s.exits(70, 4*time.Second)
		})
	}
}
