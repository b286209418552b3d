package redistest

import (
	"context"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redisserver/serverproc"
)

// Instance is a private Redis of one test. Its fault methods report errors with
// t.Errorf and are serialised, so every goroutine of the test may call them.
type Instance struct {
	Server

	opts serverproc.Options
	dir  string
	mu   sync.Mutex
	proc *serverproc.Process
}

// Start runs a private redis-server with settings in the form of its command
// line, for example
//
//	redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
//	redistest.Start(t, "--maxmemory", "2mb")
//	redistest.Start(t, "--replicaof", "127.0.0.1 7000")
//	redistest.Start(t, "--sentinel", "--sentinel monitor", "m 127.0.0.1 7000 1")
//
// The server keeps its port and its folder over Restart and is killed when the
// test ends. It is a process even where New uses a container, since the faults
// need a process.
func Start(t testing.TB, args ...string) *Instance {
	t.Helper()
	return StartBinary(t, os.Getenv("REDISTEST_BINARY"), args...)
}

// StartBinary is Start with another program than redis-server, such as a script that
// sets its environment. An empty binary means redis-server.
func StartBinary(t testing.TB, binary string, args ...string) *Instance {
	t.Helper()
	dir, err := os.MkdirTemp("", "redistest-")
	if err != nil {
		t.Fatal(err)
	}
	i := &Instance{dir: dir, opts: serverproc.Options{Binary: binary, Dir: dir, Args: args}}
	t.Cleanup(i.cleanup)
	if i.proc, err = startProc(i.opts); err != nil {
		t.Fatalf("private Redis for the test: %v", err)
	}
	i.opts.Port = i.proc.Port()
	s, err := newServer(t, i.proc.Addr())
	if err != nil {
		t.Fatal(err)
	}
	i.Server = *s
	return i
}

func startProc(opts serverproc.Options) (*serverproc.Process, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startBound)
	defer cancel()
	return serverproc.Start(ctx, opts)
}

func (i *Instance) cleanup() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.proc != nil {
		i.proc.Kill()
	}
	if err := os.RemoveAll(i.dir); err != nil && i.t != nil {
		i.t.Errorf("remove the folder of a private Redis: %v", err)
	}
}

// Stop shuts the server down with SIGTERM, on which it syncs its append-only file,
// and returns when it is gone. Clients then get "connection refused".
func (i *Instance) Stop() {
	i.t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.proc == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), startBound)
	defer cancel()
	if err := i.proc.Stop(ctx); err != nil {
		i.t.Errorf("stop the private Redis: %v", err)
	}
	i.proc = nil
}

// Kill ends the server with SIGKILL and returns when it is gone.
func (i *Instance) Kill() {
	i.t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.proc != nil {
		i.proc.Kill()
		i.proc = nil
	}
}

// Freeze stops the server with SIGSTOP: connections stay open, the kernel accepts
// new ones, and the server answers nothing.
func (i *Instance) Freeze() {
	i.t.Helper()
	i.signal(syscall.SIGSTOP)
}

// Thaw lets a frozen server go on.
func (i *Instance) Thaw() {
	i.t.Helper()
	i.signal(syscall.SIGCONT)
}

func (i *Instance) signal(sig syscall.Signal) {
	i.t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.proc == nil {
		i.t.Errorf("%v: the private Redis does not run", sig)
		return
	}
	if err := i.proc.Signal(sig); err != nil {
		i.t.Error(err)
	}
}

// Restart starts the server again on the same port and folder and returns when it
// serves. It stops a server that still runs first. Settings changed by CONFIG SET
// are lost; persisted data is kept.
func (i *Instance) Restart() {
	i.t.Helper()
	i.Stop()
	i.mu.Lock()
	defer i.mu.Unlock()
	proc, err := startProc(i.opts)
	if err != nil {
		i.t.Errorf("restart the private Redis: %v", err)
		return
	}
	i.proc = proc
}

// Pid returns the process id of the running server, or 0 when it is down.
func (i *Instance) Pid() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.proc == nil {
		return 0
	}
	return i.proc.Pid()
}

// FreePort returns a loopback port that had no listener a moment ago, for further
// listeners of an Instance ("--tls-port") and for servers that start later.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := serverproc.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}
