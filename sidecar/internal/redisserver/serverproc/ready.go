package serverproc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// readyInterval is the pause between two probes of a starting server.
const readyInterval = 5 * time.Millisecond

// waitReady waits until this process answers commands. Another server may use the port
// while this one is about to fail on it, so the process id of the answer is compared if
// the server reports it.
func (p *Process) waitReady(ctx context.Context, password string) error {
	tick := time.NewTicker(readyInterval)
	defer tick.Stop()
	var last error
	for {
		pid, err := probe(ctx, p.Addr(), password)
		switch {
		case err == nil && (pid == 0 || pid == p.Pid()):
			select {
			case <-p.done:
				return errors.New("it ended at once")
			default:
				return nil
			}
		case err == nil:
			last = fmt.Errorf("port %d answers for another process (%d)", p.port, pid)
		default:
			last = err
		}
		select {
		case <-tick.C:
		case <-p.done:
			return errors.New("it ended at once")
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", context.Cause(ctx), last)
		}
	}
}

// probe asks a server whether it serves, and for its process id; 0 if the server does not
// report it, for example because it requires another user.
func probe(ctx context.Context, addr, password string) (pid int, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return 0, err
	}
	r := bufio.NewReader(conn)
	if password != "" {
		if _, err := roundTrip(conn, r, "AUTH", password); err != nil {
			return 0, err
		}
	}
	pong, err := roundTrip(conn, r, "PING")
	switch {
	case err != nil:
		return 0, err
	case strings.HasPrefix(pong, "-LOADING"):
		return 0, errors.New(pong)
	case !strings.HasPrefix(pong, "+"):
		return 0, nil // it serves and refuses this user (NOAUTH): it is ready
	}
	info, err := roundTrip(conn, r, "INFO", "server")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(info) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "process_id:"); ok {
			return strconv.Atoi(v)
		}
	}
	return 0, nil
}

// roundTrip sends one command and returns a simple reply with its type byte, or the
// content of a bulk reply.
func roundTrip(w io.Writer, r *bufio.Reader, args ...string) (string, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return "", err
	}
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	size, ok := strings.CutPrefix(line, "$")
	if !ok {
		return line, nil
	}
	n, err := strconv.Atoi(size)
	if err != nil || n < 0 || n > 1<<20 {
		return "", fmt.Errorf("unexpected reply %q", line)
	}
	buf := make([]byte, n+2)
	if _, err := io.ReadFull(r, buf); err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}
