package remote

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// outputGrace bounds the reading of a dead child's pipes: only a process that has left
// the child's group holds them open.
const outputGrace = time.Second

// bridge carries a child's streams to and fro, byte for byte. (The child could
// have the connections themselves. But a socket is no pipe: it cannot be opened
// by /dev/stdin, and a shell's redirections do that.)
type bridge struct {
	proc local.Process
	in   *net.UnixConn
	out  *net.UnixConn
	tail local.Tail
	log  *slog.Logger
	fed  int64 // bytes that were written to its stdin; after run
}

// run returns when the process is reaped and its output has been passed on.
func (b *bridge) run() {
	stdin, stdout, stderr := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stdin)
		var err error
		b.fed, err = io.Copy(b.proc.Stdin(), b.in) // either end's end is the other's
		if !errors.Is(err, syscall.EPIPE) {        // the rest of a broken pipe tells what was not read
			_ = b.proc.Stdin().Close()
		}
		_ = b.in.Close() // a child that closed its stdin has its writer told
	}()
	go func() {
		defer close(stdout)
		_, _ = io.Copy(b.out, b.proc.Stdout())
		_ = b.out.CloseWrite()
		_, _ = io.Copy(io.Discard, b.proc.Stdout()) // unread output must not block the process
	}()
	go func() {
		defer close(stderr)
		local.LogLines(b.proc.Stderr(), b.log, "worker stderr", &b.tail, nil)
	}()
	<-b.proc.Exited()
	_, _ = b.in.Close(), b.proc.Stdin().Close()
	deadline := time.Now().Add(outputGrace)
	_, _ = b.proc.Stdout().SetReadDeadline(deadline), b.proc.Stderr().SetReadDeadline(deadline)
	_ = b.out.SetWriteDeadline(deadline)
	<-stdin
	<-stdout
	<-stderr
	_, _ = b.proc.Stdout().Close(), b.proc.Stderr().Close()
	_ = b.out.Close()
}
