package redis

import (
	"bytes"
	"errors"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// pieceSize is the maximum number of bytes of one write. Each write counts as
	// progress.
	pieceSize = 64 << 10
	// minRate is the rate of the slowest supported link, in bytes a second. A command may
	// exceed its timeout by the time that its bytes need at this rate, so that every wait
	// has an end.
	minRate = 32 << 10
)

// progressConn is a connection whose deadlines bound the time without progress and not
// the time of a whole command. go-redis sets one deadline for each command and one for
// each reply of any length: 4 MB of results over a link of 500 KB a second never got
// through before the write timeout. Each byte that is read or written moves the deadline
// that was set last, to the same distance from now, but never beyond the time that the
// bytes so far take at minRate. A command or a reply of a few kilobytes keeps its
// deadline.
//
// Under TLS it is below the encryption, since a TLS connection cannot continue after a
// write that timed out.
type progressConn struct {
	net.Conn
	last          bool // no TLS above it: the replies are readable
	reads, writes movingDeadline
	sent          atomic.Int64 // bytes written since the last byte was read
	moves         moveReply    // under TLS alertConn has it
	ended         atomic.Bool  // the server has announced that it closes the connection
}

func newProgressConn(conn net.Conn) *progressConn {
	return &progressConn{
		Conn:  conn,
		reads: movingDeadline{set: conn.SetReadDeadline}, writes: movingDeadline{set: conn.SetWriteDeadline},
	}
}

// SyscallConn lets go-redis check whether an idle connection is closed. A connection also
// counts as closed if the server has announced it.
func (c *progressConn) SyscallConn() (syscall.RawConn, error) {
	if c.ended.Load() {
		return nil, net.ErrClosed
	}
	if s, ok := c.Conn.(syscall.Conn); ok {
		return s.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

func (c *progressConn) SetDeadline(t time.Time) error {
	return errors.Join(c.reads.arm(t), c.writes.arm(t))
}
func (c *progressConn) SetReadDeadline(t time.Time) error  { return c.reads.arm(t) }
func (c *progressConn) SetWriteDeadline(t time.Time) error { return c.writes.arm(t) }

func (c *progressConn) Write(b []byte) (n int, err error) {
	c.moves.sent(b)
	for {
		if !c.writes.move() {
			return n, os.ErrDeadlineExceeded
		}
		var piece int
		piece, err = c.Conn.Write(b[n:min(n+pieceSize, len(b))])
		n += piece
		c.writes.moved(piece)
		c.sent.Add(int64(piece))
		switch {
		case err == nil && n == len(b):
			return n, nil
		case err == nil || piece > 0 && errors.Is(err, os.ErrDeadlineExceeded):
		case !c.last || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed):
			return n, err
		default:
			_ = c.SetReadDeadline(time.Now().Add(alertWait))
			err, _ = lastWords(c.Conn, err)
			return n, err
		}
	}
}

func (c *progressConn) Read(b []byte) (int, error) {
	n, err := c.read(b)
	return n, c.moves.received(n, err)
}

func (c *progressConn) read(b []byte) (int, error) {
	if !c.reads.move() {
		return 0, os.ErrDeadlineExceeded
	}
	queued := math.MaxInt
	for {
		n, err := c.Conn.Read(b)
		if n > 0 {
			c.reads.moved(n)
			c.sent.Store(0)
			if c.last && b[0] == '-' && bytes.HasPrefix(b[:n], []byte("-ERR Protocol error")) {
				c.ended.Store(true)
			}
		}
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		// A large command may still be in the buffers of this machine and of proxies; the
		// reply follows it. If the peer's machine accepts none of it any more, the link
		// is down.
		sent := c.sent.Load()
		if sent < pieceSize {
			return n, err
		}
		if left, known := unacknowledged(c.Conn); known {
			if left > 0 && left >= queued {
				return n, err
			}
			queued = left
		}
		if !c.reads.await(sent) {
			return n, err
		}
	}
}

// movingDeadline is the deadline of one direction.
type movingDeadline struct {
	set func(time.Time) error

	mu    sync.Mutex
	end   time.Time     // as set by the caller; zero for none
	step  time.Duration // its distance when it was set
	bytes int64         // since it was set
}

func (d *movingDeadline) arm(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.end, d.step, d.bytes = t, 0, 0
	if !t.IsZero() {
		d.step = time.Until(t)
	}
	return d.set(t)
}

func (d *movingDeadline) moved(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.bytes += int64(n)
}

// move moves the deadline if there was progress since it was set. It reports whether
// there is time left.
func (d *movingDeadline) move() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bytes == 0 || d.moveLocked(d.bytes)
}

// await moves the deadline for a first byte that is due when the other side has received
// that many bytes.
func (d *movingDeadline) await(bytes int64) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.moveLocked(d.bytes + bytes)
}

func (d *movingDeadline) moveLocked(bytes int64) bool {
	if d.end.IsZero() {
		return true
	}
	if d.step <= 0 {
		return false // set to interrupt a call
	}
	now := time.Now()
	limit := d.end.Add(time.Duration(float64(bytes) / minRate * float64(time.Second)))
	if !now.Before(limit) {
		return false
	}
	next := now.Add(d.step)
	if next.After(limit) {
		next = limit
	}
	if next.Before(d.end) {
		next = d.end
	}
	return d.set(next) == nil
}
