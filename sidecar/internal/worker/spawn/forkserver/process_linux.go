package forkserver

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

const (
	// markRoom is the maximum length of a process id, besides the worker id in it.
	markRoom = 128
	// outputGrace is how long the pipes of a fork server that has ended are read.
	outputGrace = 200 * time.Millisecond
)

// process is a running fork server.
type process struct {
	cfg     *Config
	proc    local.Process
	control *net.UnixConn
	env     map[string]string // its environment
	tail    local.Tail
	readers sync.WaitGroup

	turn       sync.Mutex // one fork at a time, so that each has its own timeout
	complained atomic.Bool
	stuck      chan struct{} // closed when it does not answer
	stuckOnce  sync.Once
}

// launch starts a fork server and waits for the message that it can fork.
func launch(ctx context.Context, cfg *Config, start local.Start) (forker, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	argv := append(slices.Clone(cfg.Command), strconv.Itoa(3+len(cfg.Files)))
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = cfg.Dir
	cmd.Env = append(slices.Clone(cfg.Env), local.IDVariable+"="+mark(cfg.WorkerID))
	cmd.ExtraFiles = append(slices.Clone(cfg.Files), theirs)
	proc, err := start(cmd)
	theirs.Close()
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("it cannot be started: %s", local.StartReason(err))
	}
	p := &process{cfg: cfg, proc: proc, control: ours, env: variables(cmd.Env), stuck: make(chan struct{})}
	_ = proc.Stdin().Close()
	p.readers.Go(func() {
		<-proc.Exited()
		p.markStuck()
	})
	for _, pipe := range []local.ReadPipe{proc.Stdout(), proc.Stderr()} {
		p.readers.Go(func() { local.LogLines(pipe, cfg.Log, "fork server stderr", &p.tail, nil) })
	}
	if err := p.handshake(ctx); err != nil {
		p.end()
		if last := p.tail.Last(); last != "" {
			err = fmt.Errorf("%w; its last line on stderr: %s", err, last)
		}
		return nil, err
	}
	return p, nil
}

// mark is the process id of a fork server. A fork overwrites it with its own in the
// memory that /proc/PID/environ shows, and needs as much space.
func mark(workerID string) string {
	id := fmt.Sprintf("%s-forkserver-%s", workerID, rand.Text()[:10])
	return id + strings.Repeat(".", markRoom+len(workerID)-len(id))
}

// handshake reads the first message of the fork server: that it is ready, or why it
// must not fork.
func (p *process) handshake(ctx context.Context) error {
	_ = p.control.SetReadDeadline(time.Now().Add(p.cfg.StartTimeout))
	defer context.AfterFunc(ctx, func() { _ = p.control.SetReadDeadline(time.Now()) })()
	buf := make([]byte, 64<<10)
	n, err := p.control.Read(buf)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("it was not ready within %v", p.cfg.StartTimeout)
	case err != nil || n == 0:
		if local.Within(p.proc.Exited(), time.Second) {
			return fmt.Errorf("it %s before it was ready", p.proc.Fate())
		}
		return errors.New("it closed its socket before it was ready")
	}
	var word struct {
		Problem string `json:"problem"`
	}
	if err := json.Unmarshal(buf[:n], &word); err != nil {
		return fmt.Errorf("its first word cannot be read: %w", err)
	}
	if word.Problem != "" {
		return &UnsupportedError{word.Problem}
	}
	return nil
}

func (p *process) pid() int { return p.proc.Pid() }

// gone is closed when the fork server has ended or no longer answers.
func (p *process) gone() <-chan struct{} { return p.stuck }

func (p *process) markStuck() { p.stuckOnce.Do(func() { close(p.stuck) }) }

func (p *process) complain() bool { return p.complained.CompareAndSwap(false, true) }

// end stops the fork server by closing its socket, and then by force. A longer grace
// period would save nothing, since it has no state.
func (p *process) end() string {
	hard, cancel := context.WithCancel(context.Background())
	cancel()
	local.End(hard, p.proc, func() { p.control.Close() }, time.Second)
	deadline := time.Now().Add(outputGrace)
	_, _ = p.proc.Stdout().SetReadDeadline(deadline), p.proc.Stderr().SetReadDeadline(deadline)
	p.readers.Wait()
	_, _ = p.proc.Stdout().Close(), p.proc.Stderr().Close()
	return p.proc.Fate()
}

// variables returns an environment as a map. The last of several entries with a name
// counts.
func variables(env []string) map[string]string {
	m := make(map[string]string, len(env))
	for _, entry := range env {
		if name, value, ok := strings.Cut(entry, "="); ok {
			m[name] = value
		}
	}
	return m
}

// socketPair returns the sidecar's end of a socket with message boundaries, and the
// descriptor of the other end.
func socketPair() (ours *net.UnixConn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("no socket for the fork server: %w", err)
	}
	f := os.NewFile(uintptr(fds[0]), "forkserver")
	theirs = os.NewFile(uintptr(fds[1]), "forkserver")
	defer f.Close() // FileConn duplicates it
	conn, err := net.FileConn(f)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("no socket for the fork server: %w", err)
	}
	return conn.(*net.UnixConn), theirs, nil
}
