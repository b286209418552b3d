package supervise_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/supervise"
	testproc "github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

func TestReplicasStartWhenRedisAnswersAndAreReadyASecondLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(b *bundle, c *supervise.Config) {
			c.Replicas = 3
			b.redis.away = true
		})
		time.Sleep(time.Hour)
		if n := b.program.started(); n != 0 {
			t.Errorf("%d started without Redis", n)
		}
		b.redis.set(false)
		time.Sleep(900 * time.Millisecond)
		if len(b.Slots()) != 3 || b.Up() != 0 || b.allUp.Load() != 0 {
			t.Errorf("before a second: %v, %d up", b.Slots(), b.Up())
		}
		time.Sleep(300 * time.Millisecond)
		if b.Up() != 3 || b.allUp.Load() != 1 {
			t.Errorf("after a second: %d up, told %d times", b.Up(), b.allUp.Load())
		}
		for n, r := range b.Slots() {
			if r.Slot != n || r.Leaving {
				t.Errorf("%+v", r)
			}
		}
		ids := map[string]bool{}
		for _, env := range b.program.environments() {
			for _, entry := range env {
				if strings.HasPrefix(entry, "WORKER_ID=w-") || strings.HasPrefix(entry, "SIDECAR_PROCESS_ID=w-") {
					ids[entry] = true
				}
			}
			if !has(env, "A=b") {
				t.Errorf("environment %v", env)
			}
		}
		if len(ids) != 6 {
			t.Errorf("ids %v", ids)
		}
		b.halt()
	})
}

// TestRestartsBackOffAndAHealthyMinuteResetsThem: the pauses grow, and a minute without
// a failure resets them.
func TestRestartsBackOffAndAHealthyMinuteResetsThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(b *bundle, _ *supervise.Config) { b.program.lives = 6 * time.Second })
		time.Sleep(10 * time.Minute)
		pauses := func() (d []time.Duration) {
			b.program.mu.Lock()
			defer b.program.mu.Unlock()
			for i := 1; i < len(b.program.starts); i++ {
				d = append(d, b.program.starts[i].Sub(b.program.starts[i-1])-b.program.lives)
			}
			return d
		}
		early := pauses()
		for i, d := range early[:8] {
			if most := 100 * time.Millisecond << i; d < most/2 || d > most {
				t.Errorf("pause %d is %v, want %v to %v", i, d, most/2, most)
			}
		}
		if last := early[len(early)-1]; last < 15*time.Second || last > 30*time.Second {
			t.Errorf("the last pause is %v", last)
		}
		b.program.set(func() { b.program.lives, b.program.starts = 61*time.Second, nil })
		time.Sleep(10 * time.Minute)
		late := pauses()
		if n := len(late); n < 5 {
			t.Fatalf("%d restarts", n)
		}
		for _, d := range late[1:] {
			if d > 100*time.Millisecond {
				t.Errorf("after a healthy minute it paused %v", d)
			}
		}
		b.halt()
	})
}

// TestAProgramThatRecyclesItself: a program that ends with status 0 after it has worked
// is restarted after the shortest pause, every time.
func TestAProgramThatRecyclesItself(t *testing.T) {
	for _, c := range []struct {
		name  string
		lives time.Duration
		quick bool
	}{{"after work", 6 * time.Second, true}, {"at once", 4 * time.Second, false}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := setup(t, func(b *bundle, cfg *supervise.Config) {
					b.program.lives, b.program.content, cfg.StartRetries = c.lives, true, 100
				})
				time.Sleep(5 * time.Minute)
				b.program.set(func() {
					n := len(b.program.starts)
					last := b.program.starts[n-1].Sub(b.program.starts[n-2]) - c.lives
					if quick := last <= 100*time.Millisecond; quick != c.quick {
						t.Errorf("the last pause is %v", last)
					}
				})
				b.halt()
			})
		})
	}
}

// TestAProgramThatNeverStaysUp: the supervisor ends with the observed reason; a program
// that stayed up once is restarted without a limit.
func TestAProgramThatNeverStaysUp(t *testing.T) {
	for _, c := range []struct {
		name   string
		lives  time.Duration
		words  string
		absent bool
		want   string
	}{
		{"ends at once", time.Millisecond, "", false, "it exited with status 3 after 1ms"},
		{"ends after its imports", 4 * time.Second, "no module\n", false, "it exited with status 3 after 4s; its last line on stderr: no module"},
		{"is not there", 0, "", true, "not found on PATH"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := setup(t, func(b *bundle, _ *supervise.Config) {
					b.program.lives, b.program.words, b.program.absent = c.lives, c.words, c.absent
				})
				err := b.wait()
				failure, ok := errors.AsType[*local.StartError](err)
				if !ok || failure.Attempts != 4 || !strings.Contains(err.Error(), c.want) {
					t.Errorf("ended with %v, want %q", err, c.want)
				}
				if n := b.program.started(); n != 4 {
					t.Errorf("started %d times", n)
				}
			})
		})
	}
	t.Run("stayed up once", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := setup(t, func(_ *bundle, c *supervise.Config) { c.Replicas = 2 })
			time.Sleep(6 * time.Second)
			b.program.set(func() { b.program.lives = time.Millisecond })
			for _, p := range b.program.all() {
				p.end("exited with status 1")
			}
			time.Sleep(time.Hour)
			if n := b.program.started(); n < 100 {
				t.Errorf("started %d times in an hour", n)
			}
			b.halt()
		})
	})
}

// TestAnEndThatRedisExplainsIsNotTheProgramsFault: an end during an outage of Redis is
// not counted.
func TestAnEndThatRedisExplainsIsNotTheProgramsFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(b *bundle, c *supervise.Config) { c.StartRetries = 0 })
		time.Sleep(time.Second / 2)
		for range 20 {
			b.redis.set(true)
			b.program.last().end("exited with status 1")
			time.Sleep(10 * time.Second)
			before := b.program.started()
			b.redis.set(false)
			time.Sleep(time.Second / 2)
			if b.program.started() != before+1 {
				t.Fatal("not started again when Redis was back")
			}
		}
		b.halt()
	})
}

func TestRedisThatRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(b *bundle, c *supervise.Config) { b.redis.refuses, c.Replicas = errRefused, 3 })
		if err := b.wait(); !errors.Is(err, errRefused) {
			t.Errorf("ended with %v", err)
		}
	})
}

// TestAStop: SIGTERM first, then SIGKILL, in any state of the replica.
func TestAStop(t *testing.T) {
	for _, c := range []struct {
		name     string
		finishes time.Duration
		deaf     bool
		abort    time.Duration // after the stop
		took     time.Duration
		signals  int
	}{
		{"it ends when asked", 3 * time.Second, false, time.Hour, 3 * time.Second, 1},
		{"it does not", 0, true, 20 * time.Second, 20 * time.Second, 2},
		{"it is not quick enough", 30 * time.Second, false, 20 * time.Second, 20 * time.Second, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := setup(t, func(b *bundle, cfg *supervise.Config) {
					cfg.Replicas = 2
					b.program.deaf, b.program.finishes = c.deaf, c.finishes
				})
				time.Sleep(2 * time.Second)
				began := time.Now()
				b.stop()
				timer := time.AfterFunc(c.abort, b.abort)
				defer timer.Stop()
				synctest.Wait()
				for _, r := range b.Slots() {
					if !r.Leaving {
						t.Errorf("%+v", r)
					}
				}
				if err := b.wait(); err != nil {
					t.Error(err)
				}
				if d := time.Since(began); d != c.took {
					t.Errorf("took %v, want %v", d, c.took)
				}
				for _, p := range b.program.all() {
					if got := p.got(); len(got) != c.signals || got[0] != syscall.SIGTERM {
						t.Errorf("signals %v", got)
					}
				}
				if killed := b.said("worker does not stop: killed"); killed != 2*(c.signals-1) {
					t.Errorf("said %d times that it was killed", killed)
				}
			})
		})
	}
	t.Run("while Redis is awaited", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := setup(t, func(b *bundle, _ *supervise.Config) { b.redis.away = true })
			time.Sleep(time.Second)
			b.halt()
		})
	})
	t.Run("in the pause before a restart", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			b := setup(t, func(b *bundle, c *supervise.Config) { b.program.lives, c.StartRetries = time.Millisecond, 1000 })
			time.Sleep(2 * time.Minute)
			began := time.Now()
			b.halt()
			if d := time.Since(began); d != 0 {
				t.Errorf("took %v", d)
			}
		})
	})
}

// TestRestart: one replica after another, the next when the replacement is up. A new
// version that does not stay up costs one replica only.
func TestRestart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(b *bundle, c *supervise.Config) { c.Replicas, b.program.finishes = 3, time.Second })
		time.Sleep(10 * time.Second)
		b.Restart()
		least := 3
		for range 70 {
			time.Sleep(100 * time.Millisecond)
			least = min(least, b.Up())
		}
		if b.program.started() != 6 || b.Up() != 3 || least != 2 || b.said("workers are replaced") != 1 {
			t.Errorf("started %d, up %d, at least %d", b.program.started(), b.Up(), least)
		}
		if b.said("worker ended") != 0 {
			t.Error("a replacement was logged as a failure")
		}

		b.program.set(func() { b.program.lives = 10 * time.Millisecond })
		b.Restart()
		time.Sleep(5 * time.Second)
		if b.Up() != 2 || b.said("the other old ones stay") != 1 {
			t.Errorf("%d up with a broken version", b.Up())
		}
		// The program is repaired: a command does not wait for the end of the pause.
		time.Sleep(time.Minute)
		b.program.set(func() { b.program.lives = 0 })
		b.Restart()
		time.Sleep(8 * time.Second)
		if b.Up() != 3 || b.said("workers are replaced") != 2 {
			t.Errorf("%d up with a good one", b.Up())
		}
		b.Restart()
		time.Sleep(500 * time.Millisecond)
		b.halt() // in the middle of a restart
	})
}

func TestARestartKillsWhatDoesNotStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(b *bundle, _ *supervise.Config) { b.program.deaf = true })
		time.Sleep(2 * time.Second)
		first := b.program.last()
		b.Restart()
		time.Sleep(11*time.Second + 500*time.Millisecond)
		if len(first.got()) != 2 || b.program.started() != 2 || b.Up() != 1 {
			t.Errorf("signals %v, started %d, up %d", first.got(), b.program.started(), b.Up())
		}
		b.program.set(func() { b.program.deaf = false })
		b.halt()
	})
}

func TestOutputIsLoggedLineByLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, nil)
		time.Sleep(time.Second)
		p := b.program.last()
		fmt.Fprint(p.out, "one\ntwo\n")
		fmt.Fprint(p.errs, "three\nhalf")
		p.end("exited with status 1")
		time.Sleep(time.Second)
		for _, line := range []string{
			`msg="worker stdout" replica=0 pid=101 line=one`, `msg="worker stdout" replica=0 pid=101 line=two`,
			`msg="worker stderr" replica=0 pid=101 line=three`, `msg="worker stderr" replica=0 pid=101 line=half`,
			`its last line on stderr: half`,
		} {
			if b.said(line) != 1 {
				t.Errorf("not in the log: %s\n%s", line, b.log.String())
			}
		}
		b.halt()
	})
}

// TestRealProcesses: a shell whose child ignores SIGTERM, in one process group.
func TestRealProcesses(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	log := &testlog.Buffer{}
	s := supervise.New(supervise.Config{
		Command: []string{"sh", "-c", `sh -c 'trap "" TERM; echo $$ >>"$0"; while :; do sleep 0.05; done' ` + pids + ` & echo $$ >>` + pids + `; read -r line || echo end of stdin; wait`},
		Env:     os.Environ(), Replicas: 2, WorkerID: "w", StopGrace: time.Second,
		Await: func(context.Context) (bool, error) { return false, nil },
		Log:   slog.New(slog.NewTextHandler(log, nil)),
	})
	soft, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(soft, t.Context()) }()
	var running []int
	deadline := time.Now().Add(20 * time.Second)
	for (len(running) < 4 || strings.Count(log.String(), `line="end of stdin"`) < 2) && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond)
		running = nil
		text, _ := os.ReadFile(pids)
		for line := range strings.Lines(string(text)) {
			var pid int
			if _, err := fmt.Sscan(line, &pid); err == nil {
				running = append(running, pid)
			}
		}
	}
	stop()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it does not stop")
	}
	if len(running) != 4 {
		t.Fatalf("%v ran", running)
	}
	for _, pid := range running {
		// The group gets SIGKILL at the end of the stop. Its members that this process does not
		// reap may take the kernel a moment longer.
		wait.Until(t, fmt.Sprintf("the end of process %d", pid), func() bool { return !testproc.Alive(strconv.Itoa(pid)) })
	}
	if n := strings.Count(log.String(), `line="end of stdin"`); n != 2 {
		t.Errorf("%d saw the end of their stdin:\n%s", n, log)
	}
}

// TestAProgramThatMakesADaemonOfItself: the supervisor gives up with an error that says
// so.
func TestAProgramThatMakesADaemonOfItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, func(b *bundle, _ *supervise.Config) { b.program.lives, b.program.daemon = time.Second/2, true })
		if err := b.wait(); err == nil || !strings.Contains(err.Error(), "it exited with status 0 and daemonized") {
			t.Errorf("ended with %v", err)
		}
	})
}

// TestAProgramThatIsBeingReplaced: the program starts when the replacement of its file
// has ended. A minute of failures for that reason does not end the supervisor, a longer
// time does.
func TestAProgramThatIsBeingReplaced(t *testing.T) {
	for _, lasts := range []time.Duration{50 * time.Second, time.Hour} {
		t.Run(lasts.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := setup(t, func(b *bundle, c *supervise.Config) { b.program.busy, c.StartRetries = true, 0 })
				if lasts > time.Minute {
					if err := b.wait(); err == nil || !strings.Contains(err.Error(), "is being written to (text file busy)") {
						t.Errorf("ended with %v", err)
					}
					return
				}
				time.Sleep(lasts)
				b.program.set(func() { b.program.busy = false })
				time.Sleep(time.Minute)
				if b.Up() != 1 {
					t.Error("it is not up")
				}
				b.halt()
			})
		})
	}
}
