package redis

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// drip moves bytes from or to a connection, so many a second, until it fails.
func drip(rate int, move func([]byte) (int, error)) {
	piece := make([]byte, max(rate/10, 1))
	for {
		n, err := move(piece)
		if err != nil {
			return
		}
		time.Sleep(time.Duration(n) * time.Second / time.Duration(rate))
	}
}

// TestWriteOverASlowLink: a write takes as long as it makes progress, and ends where
// it makes none.
func TestWriteOverASlowLink(t *testing.T) {
	for _, c := range []struct {
		name        string
		size, rate  int // bytes, and bytes a second that the other side reads
		stops       int // bytes after which it reads no more, 0 for never
		fails       bool
		least, most time.Duration
	}{
		{"fast", 4 << 20, 100 << 20, 0, false, 0, time.Second},
		{"ten times the timeout", 4 << 20, 80 << 10, 0, false, 45 * time.Second, 60 * time.Second},
		{"nothing is read", 4 << 20, 0, 0, true, 5 * time.Second, 5 * time.Second},
		{"small, and nothing is read", 100, 0, 0, true, 5 * time.Second, 5 * time.Second},
		{"stops in the middle", 4 << 20, 1 << 20, 2 << 20, true, 6 * time.Second, 13 * time.Second},
		{"slower than a link is", 1 << 20, 1 << 10, 0, true, 5 * time.Second, 38 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				conn := newProgressConn(ours)
				if c.rate > 0 {
					read := 0
					go drip(c.rate, func(b []byte) (int, error) {
						if c.stops > 0 && read >= c.stops {
							return 0, io.EOF
						}
						n, err := theirs.Read(b)
						read += n
						return n, err
					})
				}
				begin := time.Now()
				_ = conn.SetWriteDeadline(begin.Add(5 * time.Second))
				n, err := conn.Write(make([]byte, c.size))
				took := time.Since(begin)
				if (err != nil) != c.fails || c.fails && !errors.Is(err, os.ErrDeadlineExceeded) || err == nil && n != c.size {
					t.Errorf("%d bytes, %v", n, err)
				}
				if took < c.least || took > c.most {
					t.Errorf("it took %v", took)
				}
				ours.Close()
				theirs.Close()
				time.Sleep(time.Hour) // the other side ends
			})
		})
	}
}

// TestReadOverASlowLink is the same for a reply.
func TestReadOverASlowLink(t *testing.T) {
	for _, c := range []struct {
		name        string
		size, rate  int
		fails       bool
		least, most time.Duration
	}{
		{"ten times the timeout", 4 << 20, 80 << 10, false, 45 * time.Second, 60 * time.Second},
		{"nothing comes", 1, 0, true, 5 * time.Second, 5 * time.Second},
		{"slower than a link is", 1 << 20, 1 << 10, true, 5 * time.Second, 38 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				conn := newProgressConn(ours)
				if c.rate > 0 {
					go drip(c.rate, theirs.Write)
				}
				begin := time.Now()
				_ = conn.SetReadDeadline(begin.Add(5 * time.Second))
				_, err := io.ReadFull(conn, make([]byte, c.size))
				took := time.Since(begin)
				if (err != nil) != c.fails || c.fails && !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error(err)
				}
				if took < c.least || took > c.most {
					t.Errorf("it took %v", took)
				}
				ours.Close()
				theirs.Close()
				time.Sleep(time.Hour) // the other side ends
			})
		})
	}
}

// swallowing takes what is written at once, as the buffers of a machine do.
type swallowing struct{ net.Conn }

func (swallowing) Write(b []byte) (int, error) { return len(b), nil }

// TestReplyToACommandThatIsOnItsWay: a large command is in a buffer, and its reply
// comes when the link has brought it to the server.
func TestReplyToACommandThatIsOnItsWay(t *testing.T) {
	for _, c := range []struct {
		name  string
		sent  int
		reply time.Duration // after the command was written, 0 for never
		fails bool
		least time.Duration
		most  time.Duration
	}{
		{"large", 4 << 20, 40 * time.Second, false, 40 * time.Second, 40 * time.Second},
		{"large, without a reply", 4 << 20, 0, true, 5 * time.Second, 134 * time.Second},
		{"small, without a reply", 1 << 10, 0, true, 5 * time.Second, 5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				conn := newProgressConn(swallowing{ours})
				begin := time.Now()
				_ = conn.SetWriteDeadline(begin.Add(5 * time.Second))
				if _, err := conn.Write(make([]byte, c.sent)); err != nil {
					t.Fatal(err)
				}
				if c.reply > 0 {
					go func() {
						time.Sleep(c.reply)
						_, _ = theirs.Write([]byte("+OK\r\n"))
					}()
				}
				_ = conn.SetReadDeadline(begin.Add(5 * time.Second))
				_, err := conn.Read(make([]byte, 100))
				took := time.Since(begin)
				if (err != nil) != c.fails || took < c.least || took > c.most {
					t.Errorf("%v after %v", err, took)
				}
				// What was sent before the last reply prolongs nothing.
				if !c.fails {
					begin = time.Now()
					_ = conn.SetReadDeadline(begin.Add(5 * time.Second))
					if _, err := conn.Read(make([]byte, 100)); err == nil || time.Since(begin) != 5*time.Second {
						t.Errorf("%v after %v", err, time.Since(begin))
					}
				}
				ours.Close()
				theirs.Close()
				time.Sleep(time.Hour) // the other side ends
			})
		})
	}
}

// TestADeadlineInThePastInterrupts, also where there was progress.
func TestADeadlineInThePastInterrupts(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	conn := newProgressConn(ours)
	_ = conn.SetDeadline(time.Now().Add(time.Hour))
	go func() {
		_, _ = io.ReadFull(theirs, make([]byte, 3*pieceSize))
		_ = conn.SetWriteDeadline(time.Unix(1, 0))
	}()
	if _, err := conn.Write(make([]byte, 64*pieceSize)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}

// TestAFrozenServerEndsALargeCommand: the peer's machine takes what it has room for
// and no more, and nothing is waited for beyond two timeouts.
func TestAFrozenServerEndsALargeCommand(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	conn, err := dialer(time.Minute, nil, nil)(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	frozen, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer frozen.Close()
	_ = frozen.(*net.TCPConn).SetReadBuffer(16 << 10)
	const timeout = 100 * time.Millisecond
	_ = conn.SetWriteDeadline(time.Now().Add(timeout))
	_, _ = conn.Write(make([]byte, 2<<20)) // as much as there is room for
	_ = conn.SetReadDeadline(time.Now().Add(timeout))
	// At minRate it would be a minute.
	done := make(chan error, 1)
	go func() { _, err := conn.Read(make([]byte, 1)); done <- err }()
	select {
	case err := <-done:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	case <-time.After(30 * time.Second):
		t.Error("it waits for a reply of a server that takes nothing")
	}
}
