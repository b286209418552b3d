// Package supervise runs programs that take their tasks from Redis themselves, such as
// Graflow's own worker. It starts them when Redis answers, restarts them when they end,
// logs their output line by line, and stops them before anything that they need.
// docs/modes.md has the contract.
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

// Config is the configuration of a Supervisor. Every duration is required.
type Config struct {
	Command []string
	Name    string // the program's name in messages; the command if empty
	Dir     string
	Env     []string   // complete except for the variables that differ between replicas
	Files   []*os.File // inherited as file descriptors 3, 4 …
	// RefreshEnv, if set, returns variables for each new process that replace those of
	// Env, since their values may have changed. It may be called concurrently.
	RefreshEnv func() []string

	Replicas int    // number of processes
	WorkerID string // of the sidecar; that of a replica has its number appended

	StartRetries int            // after the first failure, for a program that never stayed up
	Restart      backoff.Policy // pause before a restart
	StopGrace    time.Duration  // between SIGTERM and SIGKILL of a process that is replaced

	// Await waits until Redis answers, and reports whether it had to wait. It returns
	// an error if Redis never will answer, and nil when ctx ends.
	Await func(ctx context.Context) (waited bool, err error)
	// AllUp, if set, is called on a goroutine of the supervisor whenever all replicas
	// have come up.
	AllUp func()

	// Start is for tests; nil starts real processes.
	Start local.Start

	Log *slog.Logger
}

const (
	// upAfter is how long a replica has run when it counts as up. An interpreter that
	// does not find its script has ended by then.
	upAfter = time.Second
	// provenAfter is how long a replica has run when the program counts as working:
	// from then on it is restarted without a limit.
	provenAfter = 5 * time.Second
	// healthyAfter is how long a replica must have run for its next restart to have a
	// short pause again.
	healthyAfter = time.Minute
	// outputGrace is how long to wait for the end of a dead replica's output. Only a
	// process that has left the group keeps the pipes open.
	outputGrace = time.Second
)

// Supervisor runs the replicas. Its methods may be called concurrently, Run once.
type Supervisor struct {
	cfg      Config
	start    local.Start   // set by Run, like stop and failed
	stop     func()        // ends Run like the end of its soft context
	failed   chan error    // the error of Run
	proven   atomic.Bool   // a replica has run for provenAfter
	restart  chan struct{} // one token, see Restart
	replicas []*replica

	mu sync.Mutex // guards the state of the replicas
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
	s := &Supervisor{cfg: cfg, restart: make(chan struct{}, 1)}
	for n := range cfg.Replicas {
		s.replicas = append(s.replicas, &replica{
			Supervisor: s, n: n, replace: make(chan chan<- error),
			workerID: cfg.WorkerID + "-" + strconv.Itoa(n),
		})
	}
	return s
}

// Run starts the replicas once Redis answers, and keeps them running until soft ends.
// It then stops them with SIGTERM, and kills them when hard ends too. It returns when
// no process is left: nil after a stop, a StartError if the program never stayed up, or
// the error of Await.
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
	wg.Go(func() { s.safe(func() error { s.restartLoop(ctx); return nil }) })
	wg.Wait()
	select {
	case err := <-s.failed:
		return err
	default:
		return nil
	}
}

// safe runs f on a goroutine of the supervisor. An error or a panic stops Run, which
// returns the first one.
func (s *Supervisor) safe(f func() error) {
	if err := recoverpanic.Do(f); err != nil {
		select {
		case s.failed <- err:
		default:
		}
		s.stop()
	}
}

// Up returns the number of replicas that have been running for upAfter.
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

// Evict does nothing: no run is registered and no record is claimed.
func (*Supervisor) Evict(string) {}

// Restart has every replica replaced and returns at once. Replicas are replaced one
// after another, and each old process ends before the new one starts: two programs with
// the same name or port may conflict. The next replica follows when the new process is
// up; one that does not come up ends the restart, and the others stay.
//
// A second call during a restart causes one more restart. A stop ends the restart.
func (s *Supervisor) Restart() {
	select {
	case s.restart <- struct{}{}:
	default:
	}
}

// restartLoop serves Restart until ctx ends.
func (s *Supervisor) restartLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.restart:
			s.restartAll(ctx)
		}
	}
}

func (s *Supervisor) restartAll(ctx context.Context) {
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
