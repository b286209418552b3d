package supervise_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/supervise"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// program is the program of the replicas, in a bubble of testing/synctest.
type program struct {
	mu       sync.Mutex
	lives    time.Duration // it ends by itself after this time; 0 means never
	words    string        // what it says on stderr before that
	deaf     bool          // it ignores SIGTERM
	finishes time.Duration // the time that it needs to end on SIGTERM
	absent   bool          // it cannot be started
	busy     bool          // nor can it, for a reason that passes
	daemon   bool          // it leaves a process behind when it ends
	content  bool          // it ends with status 0
	procs    []*proc
	starts   []time.Time
	envs     [][]string
}

// proc is one fake process.
type proc struct {
	pid                   int
	stdin, stdout, stderr net.Conn // the supervisor's ends
	out, errs             io.Writer
	exited                chan struct{}
	signals               []syscall.Signal
	end                   func(fate string)
	fate                  string
	program               *program
}

func (p *proc) Pid() int                { return p.pid }
func (p *proc) Stdin() local.WritePipe  { return p.stdin }
func (p *proc) Stdout() local.ReadPipe  { return p.stdout }
func (p *proc) Stderr() local.ReadPipe  { return p.stderr }
func (p *proc) Exited() <-chan struct{} { return p.exited }
func (p *proc) Fate() string            { return p.fate }

// Ending is a success only for a program that is content or makes a daemon of itself.
func (p *proc) Ending() local.Ending {
	if p.program.daemon || p.program.content {
		return local.Ending{}
	}
	return local.Ending{Code: 3}
}

func (p *proc) LeftBehind() bool { return p.program.daemon }

func (p *proc) Signal(sig syscall.Signal) {
	p.program.mu.Lock()
	defer p.program.mu.Unlock()
	select {
	case <-p.exited:
		return
	default:
	}
	p.signals = append(p.signals, sig)
	switch {
	case sig == syscall.SIGKILL:
		p.end("was killed by SIGKILL")
	case sig == syscall.SIGTERM && !p.program.deaf:
		time.AfterFunc(p.program.finishes, func() { p.end("exited with status 0") })
	}
}

func (g *program) start(cmd *exec.Cmd) (local.Process, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.starts = append(g.starts, time.Now())
	if g.absent {
		return nil, exec.ErrNotFound
	}
	if g.busy {
		return nil, syscall.ETXTBSY
	}
	p := &proc{program: g, pid: 100 + len(g.starts), exited: make(chan struct{})}
	var in, out, errs net.Conn
	p.stdin, in = net.Pipe()
	p.stdout, out = net.Pipe()
	p.stderr, errs = net.Pipe()
	p.out, p.errs = out, errs
	var once sync.Once
	p.end = func(fate string) {
		once.Do(func() {
			p.fate = fate
			for _, c := range []net.Conn{in, out, errs} {
				_ = c.Close()
			}
			close(p.exited)
		})
	}
	if g.lives > 0 {
		words := g.words
		time.AfterFunc(g.lives, func() {
			if words != "" {
				_, _ = io.WriteString(errs, words)
			}
			if g.daemon || g.content {
				p.end("exited with status 0")
			}
			p.end("exited with status 3")
		})
	}
	g.procs = append(g.procs, p)
	g.envs = append(g.envs, cmd.Env)
	return p, nil
}

// got returns the signals that a process has received.
func (p *proc) got() []syscall.Signal {
	p.program.mu.Lock()
	defer p.program.mu.Unlock()
	return slices.Clone(p.signals)
}

func (g *program) all() []*proc {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.procs)
}

func (g *program) environments() [][]string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.envs)
}

func (g *program) set(change func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change()
}

// left returns the number of processes that have not ended.
func (g *program) left() (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, p := range g.procs {
		select {
		case <-p.exited:
		default:
			n++
		}
	}
	return n
}

func (g *program) started() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.starts)
}

func (g *program) last() *proc {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.procs[len(g.procs)-1]
}

// redis is whether Redis answers, and with which refusal.
type redis struct {
	mu      sync.Mutex
	away    bool
	refuses error
}

func (r *redis) set(away bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = away
}

func (r *redis) await(ctx context.Context) (waited bool, err error) {
	for {
		r.mu.Lock()
		away, refuses := r.away, r.refuses
		r.mu.Unlock()
		if refuses != nil {
			return waited, refuses
		}
		if !away || !backoff.Sleep(ctx, 100*time.Millisecond) {
			return waited, nil
		}
		waited = true
	}
}

// bundle is a supervisor in a bubble.
type bundle struct {
	*supervise.Supervisor
	t       *testing.T
	program *program
	redis   *redis
	log     testlog.Buffer
	stop    context.CancelFunc // soft
	abort   context.CancelFunc // hard
	ended   chan error
	allUp   atomic.Int64
}

func setup(t *testing.T, change func(*bundle, *supervise.Config)) *bundle {
	t.Helper()
	b := &bundle{t: t, program: &program{}, redis: &redis{}, ended: make(chan error, 1)}
	cfg := supervise.Config{
		Command: []string{"worker"}, Env: []string{"A=b"}, Replicas: 1, WorkerID: "w",
		StartRetries: 3, Restart: backoff.Policy{Min: 100 * time.Millisecond, Max: 30 * time.Second},
		StopGrace: 10 * time.Second, Await: b.redis.await, Start: b.program.start,
		AllUp: func() { b.allUp.Add(1) },
		Log:   slog.New(slog.NewTextHandler(&b.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if change != nil {
		change(b, &cfg)
	}
	b.Supervisor = supervise.New(cfg)
	soft, stop := context.WithCancel(t.Context())
	hard, abort := context.WithCancel(t.Context())
	b.stop, b.abort = stop, abort
	go func() { b.ended <- b.Run(soft, hard) }()
	return b
}

// halt stops the supervisor and checks that nothing is left of it.
func (b *bundle) halt() {
	b.t.Helper()
	b.stop()
	if err := b.wait(); err != nil {
		b.t.Errorf("ended with %v", err)
	}
}

func (b *bundle) wait() error {
	b.t.Helper()
	err := <-b.ended
	b.abort()
	if n := b.program.left(); n > 0 {
		b.t.Errorf("%d processes are left", n)
	}
	if b.Up() != 0 || len(b.Slots()) != 0 {
		b.t.Errorf("%d up, %v", b.Up(), b.Slots())
	}
	return err
}

var errRefused = errors.New("WRONGPASS")

func (b *bundle) said(words string) int { return strings.Count(b.log.String(), words) }

func has(env []string, entry string) bool { return slices.Contains(env, entry) }
