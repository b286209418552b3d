package faultproxy

import (
	"bufio"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// conn is one client's connection, with the proxy's connection to the server for it.
type conn struct {
	p      *Proxy
	id     int
	client net.Conn
	server net.Conn // set before other goroutines use it

	once sync.Once
	dead chan struct{} // closed when the connection is to end

	mu      sync.Mutex
	last    Command // the latest request that was passed on
	action  Action  // for the reply to last
	waiting bool    // the reply to last has not begun
}

const dialTimeout = 5 * time.Second

func (c *conn) serve(upstream string) {
	defer c.p.forget(c)
	defer c.client.Close()
	server, err := net.DialTimeout("tcp", upstream, dialTimeout)
	if err != nil {
		c.reset()
		return
	}
	defer server.Close()
	c.mu.Lock()
	c.server = server
	c.mu.Unlock()
	select {
	case <-c.dead: // reset during the dial
		return
	default:
	}
	var wg sync.WaitGroup
	wg.Go(c.requests)
	wg.Go(c.replies)
	wg.Wait()
}

// end closes the connections to the client and to the server.
func (c *conn) end() {
	c.once.Do(func() { close(c.dead) })
	_ = c.client.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server != nil {
		_ = c.server.Close()
	}
}

// reset is end with an RST to the client.
func (c *conn) reset() {
	if tcp, ok := c.client.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	c.end()
}

// requests reads the client's requests and passes them on, one by one.
func (c *conn) requests() {
	r := bufio.NewReaderSize(c.client, 64<<10)
	for seq := 1; ; seq++ {
		cmd, raw, err := readCommand(r)
		if err != nil {
			if errors.Is(err, errProtocol) {
				c.reset()
				return
			}
			c.hangUp()
			return
		}
		cmd.Conn, cmd.Seq = c.id, seq
		v := c.p.decide(cmd)
		switch v.Action {
		case CutBefore:
			c.end()
			return
		case Late:
			c.deliverLate(raw, v.Delay)
			return
		}
		if !c.sleep(v.Delay) {
			return
		}
		c.mu.Lock()
		c.last, c.action, c.waiting = cmd, v.Action, true
		c.mu.Unlock()
		if c.travel(c.server, raw) != nil {
			c.end()
			return
		}
	}
}

// hangUp closes the sending side of the connection to the server, since the client has
// closed its own. The server still sends the replies that it owes, which no client reads.
func (c *conn) hangUp() {
	if tcp, ok := c.server.(*net.TCPConn); ok {
		_ = tcp.CloseWrite()
	}
}

// deliverLate closes the client's connection and sends its request to the server after the
// given time, whatever the client does meanwhile.
func (c *conn) deliverLate(raw []byte, after time.Duration) {
	defer c.end()
	_ = c.client.Close()
	t := time.NewTimer(after)
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.p.closed:
		return
	}
	if _, err := c.server.Write(raw); err != nil {
		return
	}
	// The connection must stay open until the server has read the request.
	c.mu.Lock()
	c.waiting, c.action = true, CutAfter
	c.mu.Unlock()
	patience := time.NewTimer(dialTimeout)
	defer patience.Stop()
	select {
	case <-c.dead: // the reply came
	case <-patience.C:
	case <-c.p.closed:
	}
}

// replies reads what the server sends and passes it on.
func (c *conn) replies() {
	buf := make([]byte, 32<<10)
	for {
		n, err := c.server.Read(buf)
		if n > 0 && !c.reply(buf[:n]) {
			return
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				c.reset()
				return
			}
			c.end()
			return
		}
	}
}

// reply passes on one piece of a reply, as the verdict on the request says, and reports
// whether the connection goes on.
func (c *conn) reply(piece []byte) bool {
	c.mu.Lock()
	first, action, cmd := c.waiting, c.action, c.last
	c.waiting = false
	c.mu.Unlock()
	switch action {
	case CutAfter:
		c.end()
		return false
	case ResetAfter:
		c.reset()
		return false
	case Swallow:
		return true
	}
	if c.travel(c.client, piece) != nil {
		c.end()
		return false
	}
	if first {
		c.p.tell(cmd)
	}
	return true
}

// travel writes bytes with the delays and slices of the current Shape.
func (c *conn) travel(to net.Conn, bytes []byte) error {
	c.p.mu.Lock()
	shape, stalled := c.p.shape, c.p.stalled
	c.p.mu.Unlock()
	if stalled != nil {
		select {
		case <-stalled:
		case <-c.dead:
			return net.ErrClosed
		}
	}
	delay := shape.Latency
	if shape.Jitter > 0 {
		delay += rand.N(shape.Jitter)
	}
	for {
		if !c.sleep(delay) {
			return net.ErrClosed
		}
		piece := bytes
		if shape.Slice > 0 {
			piece = bytes[:min(len(bytes), shape.Slice)]
		}
		if _, err := to.Write(piece); err != nil {
			return err
		}
		if bytes = bytes[len(piece):]; len(bytes) == 0 {
			return nil
		}
		delay = shape.Gap
	}
}

// sleep waits for d and reports whether the connection is still open then.
func (c *conn) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-c.dead:
		return false
	}
}
