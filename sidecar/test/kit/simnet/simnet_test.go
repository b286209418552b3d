package simnet

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// echo answers each line with "re: " and the line, and tells which lines came.
type echo struct{ came chan string }

func (e echo) serve(c net.Conn) {
	defer c.Close()
	lines := bufio.NewReader(c)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		e.came <- strings.TrimSpace(line)
		if _, err := io.WriteString(c, "re: "+line); err != nil {
			return
		}
	}
}

func setup(t *testing.T, decide func([]byte) Action) (*Host, net.Conn, echo) {
	t.Helper()
	e := echo{make(chan string, 10)}
	h := New(e.serve).Host("a", decide)
	c := dial(t, h)
	t.Cleanup(func() { _ = c.Close() })
	return h, c, e
}

func dial(t *testing.T, h *Host) net.Conn {
	t.Helper()
	c, err := h.Dial(t.Context(), "tcp", "redis")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ask(t *testing.T, c net.Conn, line string) string {
	t.Helper()
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(b[:n]))
}

func TestLatencyAndRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, c, _ := setup(t, nil)
		h.Shape(100*time.Millisecond, 0)
		began := time.Now()
		if got := ask(t, c, "one"); got != "re: one" || time.Since(began) != 200*time.Millisecond {
			t.Errorf("%q after %v", got, time.Since(began))
		}
		h.Shape(0, 10)
		began = time.Now()
		ask(t, c, "four") // 5 bytes there and 9 back
		if d := time.Since(began); d != 1400*time.Millisecond {
			t.Errorf("after %v at 10 bytes a second", d)
		}
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, c, _ := setup(t, nil)
		h.Freeze()
		began := time.Now()
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		_ = c.SetWriteDeadline(time.Now().Add(time.Second))
		n, err := c.Write(make([]byte, 2*connWindow))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n != connWindow {
			t.Errorf("%d bytes written, %v", n, err)
		}
		h.Thaw()
	})
}

func TestFreezeKeepsWhatWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, c, _ := setup(t, nil)
		h.Freeze()
		time.AfterFunc(time.Hour, h.Thaw)
		began := time.Now()
		if got := ask(t, c, "one"); got != "re: one" || time.Since(began) != time.Hour {
			t.Errorf("%q after %v", got, time.Since(began))
		}
		h.Freeze()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := h.Dial(ctx, "tcp", "redis"); err == nil {
			t.Error("a frozen host got a connection")
		}
		h.Thaw()
	})
}

func TestKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, c, e := setup(t, nil)
		h.Shape(time.Second, 0)
		if _, err := io.WriteString(c, "last\n"); err != nil {
			t.Fatal(err)
		}
		h.Kill()
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read: %v", err)
		}
		if got := <-e.came; got != "last" {
			t.Errorf("what was sent before the death: %q", got)
		}
		if _, err := h.Dial(t.Context(), "tcp", "redis"); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("dial: %v", err)
		}
	})
}

// TestFaultsOfRequests tells for each fault whether the request arrives, when, and what the
// client reads.
func TestFaultsOfRequests(t *testing.T) {
	for _, c := range []struct {
		fault   Fault
		arrives time.Duration // negative: it does not
		reply   string        // "": the connection is reset, or no reply comes
		after   time.Duration
	}{
		{"", 0, "re: one\n", 0},
		{CutBefore, -1, "", 0},
		{CutWithin, -1, "", 0},
		{CutAfter, 0, "", 0},
		{CutReply, 0, "re: ", 0},
		{Late, time.Second, "", 0},
		{DelayRequest, time.Second, "re: one\n", time.Second},
		{DelayReply, 0, "re: one\n", time.Second},
		{DropReply, 0, "", time.Minute},
		{Stall, time.Second, "re: one\n", time.Second},
	} {
		t.Run(string(c.fault), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, conn, e := setup(t, func([]byte) Action { return Action{c.fault, time.Second} })
				began := time.Now()
				if _, err := io.WriteString(conn, "one\n"); err != nil {
					t.Fatal(err)
				}
				_ = conn.SetReadDeadline(began.Add(time.Minute))
				b := make([]byte, 100)
				n, err := conn.Read(b)
				if got := string(b[:n]); got != c.reply || (err == nil) != (c.reply != "") || time.Since(began) != c.after {
					t.Errorf("read %q, %v after %v, want %q after %v", got, err, time.Since(began), c.reply, c.after)
				}
				time.Sleep(2*time.Second - min(time.Since(began), 2*time.Second))
				if arrived := len(e.came) == 1; arrived != (c.arrives >= 0) {
					t.Errorf("arrived: %v", arrived)
				}
			})
		})
	}
}

func TestAnIdleConnectionTellsItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, c, _ := setup(t, nil)
		check := func() error {
			raw, err := c.(syscall.Conn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			return raw.Read(nil)
		}
		if err := check(); err != nil {
			t.Errorf("while it is open: %v", err)
		}
		h.Cut()
		if err := check(); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("after a cut: %v", err)
		}
	})
}

func TestPipe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := Pipe()
		b := make([]byte, 10)
		if _, err := r.ReadNow(b); !errors.Is(err, syscall.EAGAIN) {
			t.Errorf("an empty pipe: %v", err)
		}
		if _, err := io.WriteString(w, "text"); err != nil || r.Unread() != 4 {
			t.Errorf("%v, %d bytes unread", err, r.Unread())
		}
		_ = w.Close()
		if n, err := r.Read(b); n != 4 || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
		if _, err := r.Read(b); !errors.Is(err, io.EOF) {
			t.Errorf("at the end: %v", err)
		}
		r, w = Pipe()
		_ = r.Close()
		if _, err := io.WriteString(w, "text"); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("a pipe without a reader: %v", err)
		}
	})
}
