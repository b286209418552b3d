package host

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/config"
)

// fakeSidecar notes what it is told.
type fakeSidecar struct {
	mu                    sync.Mutex
	told                  []string
	ready, stopping, done chan struct{}
	once                  sync.Once
	err                   error
	dumpHangs             chan struct{}
}

func newFakeSidecar() *fakeSidecar {
	return &fakeSidecar{ready: make(chan struct{}), stopping: make(chan struct{}), done: make(chan struct{})}
}

func (f *fakeSidecar) tell(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.told = append(f.told, what)
}

func (f *fakeSidecar) Stop() {
	f.tell("stop")
	f.once.Do(func() { close(f.stopping) })
}

func (f *fakeSidecar) Abort()                    { f.tell("abort") }
func (f *fakeSidecar) Quiet()                    { f.tell("quiet") }
func (f *fakeSidecar) Resume()                   { f.tell("resume") }
func (f *fakeSidecar) Hangup()                   { f.tell("renew") }
func (f *fakeSidecar) Ready() <-chan struct{}    { return f.ready }
func (f *fakeSidecar) Stopping() <-chan struct{} { return f.stopping }
func (f *fakeSidecar) Done() <-chan struct{}     { return f.done }
func (f *fakeSidecar) Wait() error               { return f.err }

func (f *fakeSidecar) Dump(w io.Writer) error {
	f.tell("dump")
	if f.dumpHangs != nil {
		<-f.dumpHangs
	}
	_, err := io.WriteString(w, "slot 0\n")
	return err
}

type supervised struct {
	*fakeSidecar
	signals chan os.Signal
	orphan  chan struct{}
	log     bytes.Buffer
	dump    bytes.Buffer
	readies int
	ended   chan error
}

func supervise(t *testing.T) *supervised {
	t.Helper()
	s := &supervised{fakeSidecar: newFakeSidecar(), signals: make(chan os.Signal, 16), orphan: make(chan struct{}), ended: make(chan error, 1)}
	sup := SignalHandler{
		Sidecar: s, Log: slog.New(slog.NewTextHandler(&s.log, nil)), Budget: 25 * time.Second,
		Signals: s.signals, ParentGone: s.orphan, DumpTo: &s.dump, OnReady: func() { s.readies++ },
	}
	go func() { s.ended <- sup.Run() }()
	return s
}

func (s *supervised) send(signals ...os.Signal) {
	for _, sig := range signals {
		s.signals <- sig
		synctest.Wait() // a dump is written beside the loop
	}
}

func TestWhatEachSignalMeans(t *testing.T) {
	const term, interrupt, tstp, cont, hup, quit = syscall.SIGTERM, syscall.SIGINT, syscall.SIGTSTP, syscall.SIGCONT, syscall.SIGHUP, syscall.SIGQUIT
	for _, c := range []struct {
		name    string
		signals []os.Signal
		want    []string
	}{
		{"the first drains", []os.Signal{term}, []string{"stop"}},
		{"the second lets go", []os.Signal{term, interrupt}, []string{"stop", "abort"}},
		{"a third changes nothing", []os.Signal{interrupt, interrupt, term}, []string{"stop", "abort", "abort"}},
		{"quiet and back", []os.Signal{tstp, tstp, cont}, []string{"quiet", "quiet", "resume"}},
		{"new workers", []os.Signal{hup}, []string{"renew"}},
		{"a dump, and go on", []os.Signal{quit, hup}, []string{"dump", "renew"}},
		{"a stop is not undone", []os.Signal{term, tstp, cont, hup}, []string{"stop"}},
		{"a dump during a stop", []os.Signal{term, quit}, []string{"stop", "dump"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := supervise(t)
				close(s.ready)
				synctest.Wait() // it is said before the first signal comes
				s.send(c.signals...)
				close(s.done)
				if err := <-s.ended; err != nil {
					t.Errorf("ended with %v", err)
				}
				if !slices.Equal(s.told, c.want) {
					t.Errorf("told %v, want %v", s.told, c.want)
				}
				if s.readies != 1 {
					t.Errorf("said %d times that it is ready", s.readies)
				}
				if dumps := strings.Count(s.dump.String(), "slot 0"); dumps != strings.Count(strings.Join(c.want, " "), "dump") {
					t.Errorf("%d dumps", dumps)
				}
			})
		})
	}
}

// TestASecondSignalPromisesWhatHappens: the queue of an embedded Redis ends with the
// sidecar.
func TestASecondSignalPromisesWhatHappens(t *testing.T) {
	for embedded, want := range map[bool]string{
		false: "running tasks go back to the queue", true: "running tasks are lost with the embedded redis",
	} {
		var log strings.Builder
		sup := SignalHandler{Sidecar: &fakeSidecar{}, Embedded: embedded, Log: slog.New(slog.NewTextHandler(&log, nil))}
		sup.stop("SIGTERM", 2)
		if !strings.Contains(log.String(), want) || strings.Count(log.String(), "\n") != 1 {
			t.Errorf("embedded %t: %s", embedded, log.String())
		}
	}
}

// TestTheWatchdogEndsAStopThatHangs: a second after the budget, whatever began
// the stop, and without a word of anything else in the process.
func TestTheWatchdogEndsAStopThatHangs(t *testing.T) {
	for name, begin := range map[string]func(signals chan os.Signal, stopping chan struct{}){
		"a signal":               func(signals chan os.Signal, _ chan struct{}) { signals <- syscall.SIGTERM },
		"a stage that has ended": func(_ chan os.Signal, stopping chan struct{}) { close(stopping) },
		"both": func(signals chan os.Signal, stopping chan struct{}) {
			close(stopping)
			synctest.Wait()
			time.Sleep(time.Second)
			signals <- syscall.SIGTERM
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				signals, stopping, over := make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
				expired := make(chan struct{})
				w := &Watchdog{after: 26 * time.Second, expire: func() { close(expired) }}
				go w.Watch(signals, nil, over)
				go w.Watch(nil, stopping, over)
				time.Sleep(time.Hour)
				began := time.Now()
				begin(signals, stopping)
				<-expired
				if d := time.Since(began); d != 26*time.Second {
					t.Errorf("after %v", d)
				}
				close(over)
			})
		})
	}
}

func TestAWatchdogThatIsNotNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		w := &Watchdog{after: time.Second, expire: func() { t.Error("it expired without a stop") }}
		go w.Watch(make(chan os.Signal), nil, over)
		close(over)
		time.Sleep(time.Minute)
	})
}

// TestALockThatIsHeldDoesNotHoldUpTheSignals: a dump waits for it, and the stop
// does not wait for the dump.
func TestALockThatIsHeldDoesNotHoldUpTheSignals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := supervise(t)
		held := make(chan struct{})
		s.dumpHangs = held
		s.send(syscall.SIGQUIT, syscall.SIGQUIT, syscall.SIGTERM)
		if want := []string{"dump", "stop"}; !slices.Equal(s.told, want) {
			t.Errorf("told %v, want %v", s.told, want)
		}
		close(held)
		close(s.done)
		if err := <-s.ended; err != nil {
			t.Error(err)
		}
	})
}

// TestTheStopComesBeforeItsLogLine: a log that is not read must not hold it up.
func TestTheStopComesBeforeItsLogLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeSidecar()
		stalled := make(chan struct{})
		sup := &SignalHandler{Sidecar: f, Budget: time.Second, Log: slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) {
			<-stalled
			return len(p), nil
		}), nil))}
		go func() {
			sup.stop("SIGTERM", 1)
			sup.stop("SIGTERM", 2)
		}()
		synctest.Wait()
		if !slices.Equal(f.told, []string{"stop"}) {
			t.Errorf("told %v", f.told)
		}
		close(stalled)
	})
}

type writer func(p []byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

func TestTheSidecarsErrorIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := supervise(t)
		s.err = errors.New("no luck")
		close(s.done)
		if err := <-s.ended; !errors.Is(err, s.err) {
			t.Errorf("ended with %v", err)
		}
		if strings.Contains(s.log.String(), "sidecar stopped") {
			t.Error("an end with an error was logged as a stop")
		}
	})
}

// TestTheEndOfTheParentIsTheFirstSignal, and never the second.
func TestTheEndOfTheParentIsTheFirstSignal(t *testing.T) {
	for name, c := range map[string]struct {
		first bool // it comes before the signal
		want  []string
	}{
		"then a signal":  {true, []string{"stop", "abort"}},
		"after a signal": {false, []string{"stop"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := supervise(t)
				if c.first {
					close(s.orphan)
					synctest.Wait()
				}
				s.send(syscall.SIGTERM)
				if !c.first {
					close(s.orphan)
					synctest.Wait()
				}
				close(s.done)
				if err := <-s.ended; err != nil {
					t.Errorf("ended with %v", err)
				}
				if !slices.Equal(s.told, c.want) {
					t.Errorf("told %v, want %v", s.told, c.want)
				}
			})
		})
	}
}

func TestTheParentsPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	fd, err := syscall.Dup(int(r.Fd())) // WatchParent's own
	if err != nil {
		t.Fatal(err)
	}
	p, err := WatchParent(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := w.WriteString("what is written does not matter"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-p.Gone:
		t.Fatal("gone while the pipe is open")
	default:
	}
	_ = w.Close()
	<-p.Gone
}

func TestReadyFDMustBeOpen(t *testing.T) {
	for _, fd := range []int{-2, 4000} {
		if _, err := WatchParent(fd); !isUsage(err) {
			t.Errorf("--parent-fd %d: %v", fd, err)
		}
		if _, err := OpenReadyFD(fd); !isUsage(err) {
			t.Errorf("--ready-fd %d: %v", fd, err)
		}
	}
	r, err := OpenReadyFD(NoFD)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Send(""); err != nil {
		t.Errorf("without a descriptor: %v", err)
	}
	r.Close()
}

func isUsage(err error) bool {
	_, is := errors.AsType[*config.UsageError](err)
	return is
}
