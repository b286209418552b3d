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

// outputGrace bounds the reading of a dead child's pipes. Only a process that has left
// the child's group keeps them open.
const outputGrace = time.Second

// bridge copies a child's streams in both directions, byte for byte. The child does not
// get the connections themselves because a socket is not a pipe: /dev/stdin cannot open
// it, and a shell's redirections do that.
type bridge struct {
	proc local.Process
	in   *net.UnixConn
	out  *net.UnixConn
	tail local.Tail
	log  *slog.Logger
	fed  int64 // bytes written to its stdin; set by run
}

// run returns when the process is reaped and its output has been forwarded.
func (b *bridge) run() {
	stdin, stdout, stderr := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stdin)
		var err error
		b.fed, err = io.Copy(b.proc.Stdin(), b.in) // the end of one side ends the other
		if !errors.Is(err, syscall.EPIPE) {        // what is left in a broken pipe shows what was not read
			_ = b.proc.Stdin().Close()
		}
		_ = b.in.Close() // tells the writer that the child has closed its stdin
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
