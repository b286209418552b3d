package redisserver

import (
	"bufio"
	"errors"
	"net"
	"strconv"
	"strings"
)

const (
	// maxBulk and maxArgs are the limits of Redis.
	maxBulk = 512 << 20
	maxArgs = 1 << 20
	// maxHeader exceeds the longest line that announces an argument.
	maxHeader = 64
)

var errRequest = errors.New("not a request of Redis")

// requestConn is a client connection that passes on only well-formed requests: arrays of
// one or more bulk strings. It skips an empty array ("*0\r\n"), as Redis does; miniredis
// read its first word, which crashed the process. Any other data ends the connection.
type requestConn struct {
	net.Conn
	r      *bufio.Reader
	args   int    // remaining arguments of the request
	rest   int    // remaining bytes of the argument, with its line end
	header []byte // a line to pass on
	err    error
}

func newRequestConn(c net.Conn) *requestConn {
	return &requestConn{Conn: c, r: bufio.NewReader(c)}
}

func (c *requestConn) Read(b []byte) (n int, err error) {
	for len(c.header) == 0 && c.rest == 0 {
		if c.err == nil {
			c.err = c.next()
		}
		if c.err != nil {
			return 0, c.err
		}
	}
	if len(c.header) > 0 {
		n = copy(b, c.header)
		c.header = c.header[n:]
		return n, nil
	}
	n, err = c.r.Read(b[:min(len(b), c.rest)])
	c.rest -= n
	return n, err
}

// next reads one line that announces a request or an argument.
func (c *requestConn) next() error {
	line, err := c.line()
	if err != nil {
		return err
	}
	text, isLine := strings.CutSuffix(line, "\r\n")
	if !isLine || text == "" {
		return errRequest
	}
	n, err := strconv.Atoi(text[1:])
	switch {
	case err != nil:
		return errRequest
	case c.args == 0 && text[0] == '*' && n <= 0:
		return nil
	case c.args == 0 && text[0] == '*' && n <= maxArgs:
		c.args = n
	case c.args > 0 && text[0] == '$' && n >= 0 && n <= maxBulk:
		c.args--
		c.rest = n + len("\r\n")
	default:
		return errRequest
	}
	c.header = []byte(line)
	return nil
}

// line returns the next line with its end, if it is short.
func (c *requestConn) line() (string, error) {
	var line []byte
	for len(line) < maxHeader {
		b, err := c.r.ReadByte()
		if err != nil {
			return "", err
		}
		if line = append(line, b); b == '\n' {
			return string(line), nil
		}
	}
	return "", errRequest
}
