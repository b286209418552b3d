package store

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// Dial opens one connection to a single Redis and logs in, for somebody who
// speaks to it for himself. No error names a password.
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
		conn = tls.Client(conn, u.TLSConfig)
	}
	if err := logIn(conn, u.Username, u.Password, u.DialTimeout); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}

func logIn(conn net.Conn, username, password string, within time.Duration) error {
	if password == "" {
		return nil
	}
	if within > 0 {
		_ = conn.SetDeadline(time.Now().Add(within))
		defer conn.SetDeadline(time.Time{}) //nolint:errcheck // the next use finds out
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
	// A byte at a time: nothing that follows may be swallowed.
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
