package rpc

import (
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// pausedConn pauses each read when its bytes have left the pipe.
type pausedConn struct {
	syscall.RawConn
	resume chan struct{}
}

func (c *pausedConn) Read(f func(fd uintptr) bool) error {
	err := c.RawConn.Read(f)
	<-c.resume
	return err
}

// An answer waits for the lines that the worker wrote before it, also while they are
// neither in the pipe nor handled.
func TestAnAnswerWaitsForTheLinesBeforeIt(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	synctest.Test(t, func(t *testing.T) {
		p, err := newStderrPipe(r)
		if err != nil {
			t.Fatal(err)
		}
		conn := &pausedConn{RawConn: p.conn, resume: make(chan struct{})}
		p.conn = conn
		if _, err := w.WriteString("the last line\n"); err != nil {
			t.Fatal(err)
		}
		next := make(chan struct{}) // the reader has handled what it read
		go func() {
			n, err := p.Read(make([]byte, 100))
			if n != 14 || err != nil {
				t.Errorf("read %d bytes: %v", n, err)
			}
			<-next
			_ = w.Close()
			_, _ = p.Read(make([]byte, 100))
		}()
		synctest.Wait()

		const limit = 3 * time.Second
		start := time.Now()
		p.awaitHandled(limit)
		if took := time.Since(start); took < limit {
			t.Errorf("the wait ended after %v with a line that was not handled", took)
		}
		go func() {
			conn.resume <- struct{}{}
			time.Sleep(time.Second) // the line is logged
			close(next)
			conn.resume <- struct{}{}
		}()
		start = time.Now()
		p.awaitHandled(limit)
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("the wait ended %v after the line was read, want a second", took)
		}
	})
}
