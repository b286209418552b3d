package forkserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

// fake is a process in memory; made says how it was started.
type fake struct {
	made string
	once sync.Once
	end  chan struct{}
}

func (f *fake) Pid() int                  { return 1 }
func (f *fake) Stdin() local.WritePipe    { return noPipe{} }
func (f *fake) Stdout() local.ReadPipe    { return noPipe{} }
func (f *fake) Stderr() local.ReadPipe    { return noPipe{} }
func (f *fake) Exited() <-chan struct{}   { return f.end }
func (f *fake) Signal(sig syscall.Signal) { f.once.Do(func() { close(f.end) }) }
func (f *fake) Fate() string              { return "ended" }

type noPipe struct{}

func (noPipe) Read([]byte) (int, error)         { return 0, io.EOF }
func (noPipe) Write(p []byte) (int, error)      { return len(p), nil }
func (noPipe) Close() error                     { return nil }
func (noPipe) SetReadDeadline(time.Time) error  { return nil }
func (noPipe) SetWriteDeadline(time.Time) error { return nil }

// fakeForker forks fakes.
type fakeForker struct {
	name     string
	err      error
	forking  func() // called during a fork
	dead     chan struct{}
	ended    chan struct{}
	endOnce  sync.Once
	complain sync.Once
}

type forkServer struct{ *fakeForker }

func (f forkServer) fork(*exec.Cmd) (local.Process, error) {
	if f.forking != nil {
		f.forking()
	}
	if f.err != nil {
		return nil, f.err
	}
	return &fake{made: f.name, end: make(chan struct{})}, nil
}
func (f forkServer) pid() int              { return 2 }
func (f forkServer) gone() <-chan struct{} { return f.dead }
func (f forkServer) end() string {
	f.endOnce.Do(func() { close(f.ended) })
	return "was killed by the test"
}

func (f forkServer) complain() (first bool) {
	f.fakeForker.complain.Do(func() { first = true })
	return first
}

// bench is a server in a bubble whose launches are configured.
type bench struct {
	*Server
	log      testlog.Buffer
	launches int
	up       []*fakeForker
	next     func(n int) (time.Duration, error) // the duration and the error of the nth launch
	stop     context.CancelFunc
}

// setup starts a server. Its goroutine ends with the bubble.
func setup(t *testing.T, next func(n int) (time.Duration, error)) *bench {
	b := &bench{next: next}
	b.Server = New(Config{
		WorkerID: "w", StartTimeout: 30 * time.Second,
		Restart: backoff.Policy{Min: 100 * time.Millisecond, Max: 10 * time.Second},
		Log:     slog.New(slog.NewTextHandler(&b.log, nil)),
	})
	b.launch = func(ctx context.Context) (forker, error) {
		b.launches++
		took, err := b.next(b.launches)
		if !backoff.Sleep(ctx, took) {
			return nil, ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		f := &fakeForker{name: fmt.Sprint("fork ", b.launches), dead: make(chan struct{}), ended: make(chan struct{})}
		b.up = append(b.up, f)
		return forkServer{f}, nil
	}
	ctx, stop := context.WithCancel(t.Context())
	b.stop = stop
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := b.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	return b
}

// made starts a worker and returns how it was started and how long that took.
func (b *bench) made(t *testing.T) (string, time.Duration) {
	t.Helper()
	began := time.Now()
	p, err := b.Start(exec.Command("worker"), func(*exec.Cmd) (local.Process, error) {
		return &fake{made: "exec", end: make(chan struct{})}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return p.(*fake).made, time.Since(began)
}

func (b *bench) want(t *testing.T, how string, within time.Duration) {
	t.Helper()
	if got, took := b.made(t); got != how || took > within {
		t.Errorf("started by %s after %v, want %s within %v\n%s", got, took, how, within, b.log.String())
	}
}

func quickly(int) (time.Duration, error) { return time.Second, nil }

func TestWorkersWaitForTheForkServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, quickly)
		b.want(t, "fork 1", time.Second)
		b.want(t, "fork 1", 0)
	})
}

func TestADeadForkServerIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, quickly)
		b.want(t, "fork 1", time.Second)
		close(b.up[0].dead)
		synctest.Wait()
		// The server pauses before the next launch; starts of workers do not.
		b.want(t, "exec", 0)
		time.Sleep(100 * time.Millisecond)
		b.want(t, "fork 2", time.Second)
		<-b.up[0].ended
		if !strings.Contains(b.log.String(), "was killed by the test") {
			t.Error(b.log.String())
		}
	})
}

func TestRestartsPauseLongerAndLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(int) (time.Duration, error) { return 0, errors.New("no luck") })
		time.Sleep(time.Minute)
		synctest.Wait()
		// The pauses double from 0.1 s to 10 s; jitter halves them at most.
		if b.launches < 9 || b.launches > 21 {
			t.Errorf("%d launches in a minute", b.launches)
		}
		if n := strings.Count(b.log.String(), "does not start"); n != 1 {
			t.Errorf("said %d times, want once:\n%s", n, b.log.String())
		}
		b.want(t, "exec", 0)
	})
}

func TestAnUnsupportedForkServerIsNotTriedAgainBeforeARestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unsupported := true
		b := setup(t, func(int) (time.Duration, error) {
			if unsupported {
				return 0, &UnsupportedError{Reason: "2 threads"}
			}
			return time.Second, nil
		})
		b.want(t, "exec", 0)
		time.Sleep(time.Hour)
		synctest.Wait()
		if b.launches != 1 || !strings.Contains(b.log.String(), "2 threads") {
			t.Errorf("%d launches\n%s", b.launches, b.log.String())
		}
		unsupported = false
		b.Restart()
		b.want(t, "fork 2", time.Second)
	})
}

func TestARestartAppliesToTheNextWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, quickly)
		b.want(t, "fork 1", time.Second)
		b.Restart()
		b.want(t, "fork 2", time.Second)
		<-b.up[0].ended
		if s := b.log.String(); strings.Contains(s, "level=WARN") {
			t.Errorf("a restart is no fault:\n%s", s)
		}
	})
}

// TestARestartDuringAStart: the imports of that start may be out of date.
func TestARestartDuringAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, quickly)
		time.Sleep(500 * time.Millisecond)
		b.Restart()
		b.want(t, "fork 2", 1500*time.Millisecond)
		<-b.up[0].ended
	})
}

func TestAForkFromBeforeTheRestartIsNotUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, quickly)
		b.want(t, "fork 1", time.Second)
		b.up[0].forking = b.Restart
		b.want(t, "fork 2", time.Second)
	})
}

// TestAForkThatFails: each worker is started without a fork, and one line is logged.
func TestAForkThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, quickly)
		b.want(t, "fork 1", time.Second)
		b.up[0].err = errors.New("out of processes")
		for range 3 {
			b.want(t, "exec", 0)
		}
		if n := strings.Count(b.log.String(), "out of processes"); n != 1 {
			t.Errorf("said %d times:\n%s", n, b.log.String())
		}
	})
}

func TestNoStartWaitsAfterAStopHasBegun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(int) (time.Duration, error) { return time.Minute, nil })
		go func() {
			time.Sleep(time.Second)
			b.Halt()
		}()
		b.want(t, "exec", time.Second)
		b.want(t, "exec", 0)
	})
}

func TestNoStartWaitsLongerThanItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(int) (time.Duration, error) { return time.Hour, nil })
		b.want(t, "exec", 30*time.Second)
	})
}

func TestAfterItsEndWorkersStartByThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, quickly)
		b.want(t, "fork 1", time.Second)
		b.stop()
		<-b.up[0].ended
		synctest.Wait()
		b.want(t, "exec", 0)
		b.Restart()
		b.want(t, "exec", 0)
	})
}
