// Package supervise keeps programs running that take their tasks from Redis
// themselves, such as Graflow's own worker: started when Redis answers, started
// again when they end, their output logged line by line, and stopped before
// anything that they need. docs/modes.md has the contract.
package supervise

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/recoverpanic"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// Config says what to run and how patient to be. Every duration is required.
type Config struct {
	Command []string
	Name    string // for people; the command if empty
	Dir     string
	Env     []string   // complete but for what tells the replicas apart
	Files   []*os.File // handed down as file descriptors 3, 4 …
	// RefreshEnv, if set, gives each new process variables that replace those of Env: their
	// values may have been changed since. It may be called concurrently.
	RefreshEnv func() []string

	Replicas int    // how many of them
	WorkerID string // of the sidecar: that of a replica adds its number

	StartRetries int            // after the first failure, for a program that never stayed up
	Restart      backoff.Policy // pause before a restart
	StopGrace    time.Duration  // between SIGTERM and SIGKILL of one that is replaced

	// Await waits until Redis answers and reports whether it had to. It returns
	// an error where Redis never will, and nil when ctx ends.
	Await func(ctx context.Context) (waited bool, err error)
	// AllUp is called, from a goroutine of the supervisor, whenever all replicas
	// have come up; nil is fine.
	AllUp func()

	// Start is for tests; nil starts real processes.
	Start local.Start

	Log *slog.Logger
}

const (
	// upAfter is how long a replica has run when it counts as up: an interpreter
	// that does not find its script is gone by then.
	upAfter = time.Second
	// provenAfter is how long one has run when the program is believed to work:
	// from then on it is started again for ever.
	provenAfter = 5 * time.Second
	// healthyAfter is how long one must have run for its next restart to be quick
	// again.
	healthyAfter = time.Minute
	// outputGrace is how long the end of a dead replica's output is waited for:
	// only a process that left the group holds the pipes.
	outputGrace = time.Second
)

// Supervisor owns the replicas. Its methods may be called concurrently, Run once.
type Supervisor struct {
	cfg      Config
	start    local.Start   // set by Run, as the next two are
	stop     func()        // ends Run as its soft context would
	failed   chan error    // why
	proven   atomic.Bool   // some replica has run for provenAfter
	renew    chan struct{} // one token, see Restart
	replicas []*replica

	mu sync.Mutex // for what replicas call state
	up int
}

// New prepares a supervisor; nothing runs before Run.
func New(cfg Config) *Supervisor {
	if cfg.Name == "" {
		cfg.Name = strings.Join(cfg.Command, " ")
	}
	if cfg.AllUp == nil {
		cfg.AllUp = func() {}
	}
	s := &Supervisor{cfg: cfg, renew: make(chan struct{}, 1)}
	for n := range cfg.Replicas {
		s.replicas = append(s.replicas, &replica{
			Supervisor: s, n: n, replace: make(chan chan<- error),
			workerID: cfg.WorkerID + "-" + strconv.Itoa(n),
		})
	}
	return s
}

// Run starts the replicas once Redis answers and keeps them until soft ends;
// then they are told to stop (SIGTERM), and killed when hard ends too. It
// returns when no process is left: nil after a stop, a StartError where the
// program never stayed up, the error of Await.
func (s *Supervisor) Run(soft, hard context.Context) error {
	s.start = s.cfg.Start
	if s.start == nil {
		spawner := local.NewSpawner()
		defer spawner.Stop()
		s.start = spawner.Start
	}
	ctx, stop := context.WithCancel(soft)
	defer stop()
	s.stop, s.failed = stop, make(chan error, 1)
	var wg sync.WaitGroup
	for _, r := range s.replicas {
		wg.Go(func() { s.safe(func() error { return r.keep(ctx, hard) }) })
	}
	wg.Go(func() { s.safe(func() error { s.renewals(ctx); return nil }) })
	wg.Wait()
	select {
	case err := <-s.failed:
		return err
	default:
		return nil
	}
}

// safe runs f, on a goroutine of the supervisor. An error, and a panic too, ends
// Run as a stop would; the first one is returned by it.
func (s *Supervisor) safe(f func() error) {
	if err := recoverpanic.Do(f); err != nil {
		select {
		case s.failed <- err:
		default:
		}
		s.stop()
	}
}

// Up is the number of replicas that have been running for a second or more.
func (s *Supervisor) Up() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.up
}

// Slots is a snapshot of the replicas that run, by number. Their tasks are unknown to
// the sidecar.
func (s *Supervisor) Slots() []worker.Slot {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []worker.Slot
	for _, r := range s.replicas {
		if r.pid != 0 {
			list = append(list, worker.Slot{Slot: r.n, Pid: r.pid, Leaving: r.leaving})
		}
	}
	slices.SortFunc(list, func(a, b worker.Slot) int { return cmp.Compare(a.Slot, b.Slot) })
	return list
}

// CrashLoop is always false: a replica that does not run is missing in Up.
func (*Supervisor) CrashLoop() bool { return false }

// RestartSlot does nothing: commands name a registered run, and a supervising sidecar
// registers none.
func (*Supervisor) RestartSlot(int) bool { return false }

// Evict has nothing to end: no run is registered and nothing is claimed.
func (*Supervisor) Evict(string) {}

// Restart asks for every replica to be replaced, and returns at once. It is one
// after another, the old one first: two programs of the same name or port may
// not get along. The next one's turn comes when the successor is up; one that
// does not come up ends the round, and the others stay.
//
// Asking again during a round makes one more of it. A stop ends it.
func (s *Supervisor) Restart() {
	select {
	case s.renew <- struct{}{}:
	default:
	}
}

// renewals serves Restart until ctx ends.
func (s *Supervisor) renewals(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.renew:
			s.renewAll(ctx)
		}
	}
}

func (s *Supervisor) renewAll(ctx context.Context) {
	s.cfg.Log.Info("replacing the workers one by one", "workers", len(s.replicas))
	for n, r := range s.replicas {
		came := make(chan error, 1)
		select {
		case r.replace <- came:
		case <-ctx.Done():
			return
		}
		select {
		case err := <-came:
			if err != nil {
				s.cfg.Log.Warn("new worker does not stay up: the other old ones stay", "replaced", n, "error", err)
				return
			}
		case <-ctx.Done():
			return
		}
	}
	s.cfg.Log.Info("workers are replaced", "workers", len(s.replicas))
}
