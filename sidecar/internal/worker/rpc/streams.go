package rpc

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/spawn/local"
)

// outputGrace is how long a dead child's pipes are read to their end: they are
// held open only by a grandchild that left the process group.
const outputGrace = time.Second

// attach starts the goroutines of the child's three pipes.
func (c *child) attach() error {
	stderr, err := watch(c.proc.Stderr())
	if err != nil {
		return err
	}
	c.stderr = stderr
	c.stdout = &listener{pipe: c.proc.Stdout(), due: c.suspects.due, stall: c.cfg.WriteTimeout}
	c.stdout.lines = protocol.NewLineReader(c.stdout, c.cfg.MaxMessageBytes)
	c.stdout.lines.OnSkip(c.skipped)
	c.stdoutDone = make(chan struct{})
	c.stderrDone = make(chan struct{})
	c.stdinDone = make(chan struct{})
	go func() {
		defer close(c.stdoutDone)
		c.pool.safe(func() { c.read(c.stdout) })
	}()
	go func() {
		defer close(c.stderrDone)
		c.pool.safe(func() { local.LogLines(stderr, c.log, "worker stderr", c.tail, c.only) })
	}()
	go func() {
		defer close(c.stdinDone)
		c.pool.safe(func() {
			if err := c.out.write(c.proc.Stdin(), c.cfg.WriteTimeout, c.proc.Exited()); err != nil {
				c.stdinFailed(err)
			}
		})
	}()
	return nil
}

// stdinFailed judges a write that failed. The pipe of a child that has just
// ended fails too; that is its end's story and not this one's.
func (c *child) stdinFailed(err error) {
	switch {
	case local.Within(c.proc.Exited(), outputGrace):
	case isTimeout(err):
		c.breakWith(fmt.Sprintf("read nothing from its stdin for %v", c.cfg.WriteTimeout))
	default:
		c.breakWith("closed its stdin")
	}
}

// readDone is closed when the child's stdout has ended.
func (c *child) readDone() <-chan struct{} { return c.stdoutDone }

// stdoutEnded waits for the end of a process whose stdout has ended. One that goes on
// cannot answer any more: it is ended for that, and not by the signal which does it.
func (c *child) stdoutEnded() {
	if !local.Within(c.proc.Exited(), outputGrace) {
		c.breakWith("closed its stdout")
	}
}

// detach ends those goroutines, after the process group is dead: output that
// is still in the pipes is read first, within a bound, and only then are the
// pipes closed. Closing first loses output; without the bound a process that
// holds the other end would keep the sidecar from ending.
func (c *child) detach() {
	_ = c.proc.Stdin().Close()
	<-c.stdinDone
	deadline := time.Now().Add(outputGrace)
	c.stdout.deadline.end(c.proc.Stdout(), deadline)
	_ = c.proc.Stderr().SetReadDeadline(deadline)
	<-c.stdoutDone
	<-c.stderrDone
	_ = c.proc.Stdout().Close()
	_ = c.proc.Stderr().Close()
	c.detached.Store(true)
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}

// processID names one child process for ever: it is in its environment, in
// initialize, and in the log.
func processID(workerID string, slot int) string {
	return fmt.Sprintf("%s-%d-%s", workerID, slot, rand.Text()[:10])
}

// notify leaves a token, unless one is there.
func notify(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}
