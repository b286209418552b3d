package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Dial opens one connection to a single Redis and logs in, for a program that uses the
// Redis protocol itself. It may be called concurrently. No error contains a password.
func Dial(ctx context.Context, o ClientOptions) (net.Conn, error) {
	u, err := o.universal()
	if err != nil {
		return nil, err
	}
	address, network := u.Addrs[0], "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	dialer := net.Dialer{Timeout: u.DialTimeout}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if u.TLSConfig != nil {
		conn = &alertConn{Conn: tls.Client(conn, u.TLSConfig)}
	}
	password := u.Password
	if o.RefreshPassword != nil {
		if password, err = o.RefreshPassword(); err != nil {
			_ = conn.Close()
			return nil, err
		}
	}
	if err := logIn(conn, u.Username, password, u.DialTimeout); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

// dialFunc opens a connection, as the method DialContext of a [net.Dialer].
type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// dialer returns go-redis' own dial function with [progressConn] and alertConn around the
// connection. dial, if it is not nil, opens the connection.
func dialer(timeout time.Duration, config *tls.Config, dial dialFunc) dialFunc {
	if dial == nil {
		d := net.Dialer{KeepAliveConfig: keepAlive}
		dial = d.DialContext
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		raw, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		conn := newProgressConn(raw)
		if config == nil {
			conn.last = true
			return conn, nil
		}
		encrypted := tls.Client(conn, forServer(config, address))
		if err := encrypted.HandshakeContext(ctx); err != nil {
			_ = raw.Close()
			return nil, err
		}
		return &alertConn{Conn: encrypted}, nil
	}
}

// forServer sets the server name for the certificate check, as tls.Dial does.
func forServer(config *tls.Config, address string) *tls.Config {
	host, _, err := net.SplitHostPort(address)
	if config.ServerName != "" || err != nil {
		return config
	}
	config = config.Clone()
	config.ServerName = host
	return config
}

// keepAlive is go-redis' default.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 30 * time.Second, Interval: 5 * time.Second, Count: 3}

// alertWait is the time that a failed write waits for data that the server sent before.
const alertWait = 50 * time.Millisecond

// alertConn is a TLS connection whose failed writes return the alert of the server. TLS
// 1.3 lets a client write before the server has checked its certificate: the alert stays
// unread while the write fails with a reset, which does not say that a certificate is
// missing.
type alertConn struct {
	*tls.Conn
	moves moveReply
}

func (c *alertConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	return n, c.moves.received(n, err)
}

func (c *alertConn) Write(b []byte) (int, error) {
	c.moves.sent(b)
	n, err := c.Conn.Write(b)
	if err == nil {
		return n, nil
	}
	_ = c.SetReadDeadline(time.Now().Add(alertWait))
	said, alert := lastWords(c.Conn, err)
	if isAlert(alert) {
		return n, alert
	}
	return n, said
}

// lastWords returns the error reply that the server sent before it closed the connection,
// if there is one, after a failed write. Redis refuses an argument that is too long when
// it has read its length, without waiting for the rest. The second error is that of the
// read.
func lastWords(conn io.Reader, err error) (said, look error) {
	reply := make([]byte, 256)
	n, look := conn.Read(reply)
	line, _, _ := strings.Cut(string(reply[:n]), "\r\n")
	if text, is := strings.CutPrefix(line, "-"); is {
		return &lastReply{text, err}, look
	}
	return err, look
}

// lastReply is an error reply that arrived while the command was being written. It is not
// a redis.Error, so that go-redis does not use the connection again.
type lastReply struct {
	text string
	err  error
}

func (e *lastReply) Error() string { return e.text + " (" + e.err.Error() + ")" }
func (e *lastReply) Unwrap() error { return e.err }

// isAlert reports whether err is an alert of the other side, for which crypto/tls exports
// no type.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

func logIn(conn net.Conn, username, password string, within time.Duration) error {
	if password == "" {
		return nil
	}
	if within > 0 {
		_ = conn.SetDeadline(time.Now().Add(within))
		defer conn.SetDeadline(time.Time{}) //nolint:errcheck // the next use fails then
	}
	words := []string{"AUTH", password}
	if username != "" {
		words = []string{"AUTH", username, password}
	}
	command := fmt.Appendf(nil, "*%d\r\n", len(words))
	for _, word := range words {
		command = fmt.Appendf(command, "$%d\r\n%s\r\n", len(word), word)
	}
	if _, err := conn.Write(command); err != nil {
		return err
	}
	// Byte by byte: data that follows must not be consumed.
	var reply []byte
	one := make([]byte, 1)
	for len(reply) < 512 && (len(reply) == 0 || reply[len(reply)-1] != '\n') {
		if _, err := io.ReadFull(conn, one); err != nil {
			return fmt.Errorf("redis: no answer to AUTH: %w", err)
		}
		reply = append(reply, one[0])
	}
	if text := strings.TrimSpace(string(reply)); text != "+OK" {
		return fmt.Errorf("redis: AUTH: %s", strings.TrimPrefix(text, "-"))
	}
	return nil
}
