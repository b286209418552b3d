// Package serverproc runs a redis-server (or valkey-server) as a child process. The
// embedded Redis (redisserver) and the Redis of tests (redistest) share it. It handles
// processes and ports and does not use go-redis.
//
// The server listens on loopback only, persists nothing unless configured, and has its
// own process group, so that Ctrl-C on the terminal does not reach it. On Linux it dies
// with this process.
package serverproc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/backoff"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/reaper"
)

// Host is the only address that servers bind.
const Host = "127.0.0.1"

const (
	// portAttempts is the number of attempts if a free port is taken before the server
	// binds it.
	portAttempts = 5
	// outputGrace is the time for which the output pipe may outlive the server: its
	// forked child (BGSAVE) can keep the pipe open.
	outputGrace = time.Second
	// keepLines is the number of last output lines that an error quotes from.
	keepLines = 20
)

// ErrNotFound is the error of Find if no server is installed.
var ErrNotFound = errors.New("neither redis-server nor valkey-server is on PATH (apt-get install redis-server)")

// Find returns the path of redis-server on PATH, or else of valkey-server, or else
// ErrNotFound.
func Find() (string, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNotFound
}

// Options configures Start. Only Dir is required.
type Options struct {
	// Binary is the path of the server; empty means Find.
	Binary string
	// Dir is an existing folder of the caller: the working directory, with the
	// configuration file and the persistence. Nothing is written after the start unless
	// persistence is configured.
	Dir string
	// Port is the port to listen on; 0 picks a free one.
	Port int
	// Args are further settings in the form of redis-server's command line:
	// "--appendonly", "yes", "--replicaof", "127.0.0.1 7000". They are written to the
	// configuration file: on the command line every user of the machine could read a
	// password.
	Args []string
	// Output receives each output line of the server, from one goroutine; nil discards
	// them.
	Output func(line string)
	// Waiting, if set, is called once when a start has failed temporarily, for example
	// while the binary is being written, and will be retried.
	Waiting func(err error)
}

// Process is a running server. Its methods may be called from any goroutine.
type Process struct {
	port int
	cmd  *exec.Cmd
	done chan struct{}
	err  error // valid once done is closed
	tail *tail
	stop atomic.Bool
}

// startPause is the pause between attempts after a temporary failure.
var startPause = backoff.Policy{Min: 100 * time.Millisecond, Max: time.Second}

// Start runs a server and returns once it answers, within ctx. It retries a temporary
// failure for a minute, see [local.IsTransient]. The error names the binary and quotes
// the output of the server.
func Start(ctx context.Context, opts Options) (*Process, error) {
	var tries local.Tries
	pause := backoff.New(startPause)
	for {
		p, err := startOnAPort(ctx, opts)
		if err == nil || !tries.Bears(err) || ctx.Err() != nil {
			return p, err
		}
		if opts.Waiting != nil && pause.Failures() == 0 {
			opts.Waiting(err)
		}
		if pause.Sleep(ctx); ctx.Err() != nil {
			return nil, err
		}
	}
}

func startOnAPort(ctx context.Context, opts Options) (*Process, error) {
	if opts.Binary == "" {
		path, err := Find()
		if err != nil {
			return nil, err
		}
		opts.Binary = path
	}
	var lastErr error
	for range portAttempts {
		port := opts.Port
		if port == 0 {
			free, err := FreePort()
			if err != nil {
				return nil, err
			}
			port = free
		}
		p, err := start(ctx, opts, port)
		if err == nil {
			return p, nil
		}
		lastErr = err
		if opts.Port != 0 || !errors.Is(err, errAddressInUse) {
			break
		}
	}
	return nil, lastErr
}

// temporary are the messages of a server, or of a script around it, for temporary
// failures to start: the binary is being written, or no process, memory or descriptor is
// left.
var temporary = []string{"Text file busy", "Resource temporarily unavailable", "Cannot allocate memory", "Too many open files"}

var errAddressInUse = errors.New("address already in use")

func start(ctx context.Context, opts Options, port int) (*Process, error) {
	conf := filepath.Join(opts.Dir, "redis.conf")
	settings, sentinel := directives(opts.Args)
	if err := os.WriteFile(conf, configFile(port, opts.Dir, settings, sentinel), 0o600); err != nil {
		return nil, fmt.Errorf("write the configuration of %s: %w", opts.Binary, err)
	}
	out, in, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("pipe for %s: %w", opts.Binary, err)
	}
	args := []string{conf}
	if sentinel {
		args = append(args, "--sentinel")
	}
	cmd := exec.Command(opts.Binary, args...)
	cmd.Dir = opts.Dir
	cmd.Stdout, cmd.Stderr = in, in
	// The environment is not inherited: passwords must not leak into it, and the output
	// must be in one language.
	cmd.Env = []string{"LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = sysProcAttr()
	err = spawn(cmd)
	_ = in.Close() // the child has its own copy
	if err != nil {
		_ = out.Close()
		return nil, fmt.Errorf("start %s: %w", opts.Binary, err)
	}
	p := &Process{port: port, cmd: cmd, done: make(chan struct{}), tail: &tail{}}
	go p.watch(out, opts.Output)

	if err := p.waitReady(ctx, password(settings)); err != nil {
		p.stop.Store(true)
		p.killGroup()
		<-p.done
		if p.tail.contains("Address already in use") {
			err = fmt.Errorf("port %d: %w", port, errAddressInUse)
		} else if slices.ContainsFunc(temporary, p.tail.contains) {
			err = fmt.Errorf("%w: %w", err, local.ErrPasses)
		}
		return nil, fmt.Errorf("%s did not start: %w%s", opts.Binary, err, p.tail.quote())
	}
	return p, nil
}

// watch reads the output to its end and waits for the process. If a forked child keeps
// the pipe open, it stops reading after outputGrace.
func (p *Process) watch(out *os.File, line func(string)) {
	read := make(chan struct{})
	go func() {
		defer close(read)
		p.readOutput(out, line)
	}()
	err := p.cmd.Wait()
	reaper.Release(p.cmd.Process.Pid)
	p.killGroup()
	_ = out.SetReadDeadline(time.Now().Add(outputGrace))
	<-read
	_ = out.Close()
	switch {
	case p.stop.Load():
	case err != nil:
		p.err = fmt.Errorf("%s ended unexpectedly: %w%s", p.cmd.Path, err, p.tail.quote())
	default:
		p.err = fmt.Errorf("%s ended unexpectedly with status 0%s", p.cmd.Path, p.tail.quote())
	}
	close(p.done)
}

func (p *Process) readOutput(out io.Reader, line func(string)) {
	r := bufio.NewReaderSize(out, 4096)
	for {
		text, err := r.ReadString('\n')
		if text = strings.TrimSpace(text); text != "" {
			p.tail.add(text)
			if line != nil {
				line(text)
			}
		}
		if err != nil {
			return
		}
	}
}

// Port returns the TCP port on Host.
func (p *Process) Port() int { return p.port }

// Addr returns "127.0.0.1:port".
func (p *Process) Addr() string { return Host + ":" + strconv.Itoa(p.port) }

// Pid returns the process id of the server.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done returns a channel that is closed when the server has ended and its output was
// read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err returns how the server ended once Done is closed: nil after Stop or Kill, otherwise
// an error with its last output lines. Before that it returns nil.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Signal sends a signal to the server only. It is no error if the server has ended.
func (p *Process) Signal(sig syscall.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("signal %s: %w", p.cmd.Path, err)
	}
	return nil
}

// Kill ends the server and its forked children with SIGKILL and returns when it is gone.
func (p *Process) Kill() {
	p.stop.Store(true)
	p.killGroup()
	<-p.done
}

// Stop ends the server with SIGTERM (it continues a stopped one), kills it when ctx ends,
// and returns when it is gone. It returns the error of ctx if the server had to be
// killed.
func (p *Process) Stop(ctx context.Context) error {
	p.stop.Store(true)
	if err := p.Signal(syscall.SIGTERM); err != nil {
		p.killGroup()
	}
	_ = p.Signal(syscall.SIGCONT)
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	// Both may have happened. A server that ended in time was not killed.
	select {
	case <-p.done:
		return nil
	default:
	}
	p.killGroup()
	<-p.done
	return fmt.Errorf("%s had to be killed: %w", p.cmd.Path, context.Cause(ctx))
}
