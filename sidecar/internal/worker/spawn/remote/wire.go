// Package remote runs worker processes in another container than the sidecar's, which
// pipes do not reach, over a Unix socket in a shared volume. A Hub listens on the
// socket and makes the processes for the pool; a Host, which `sidecar connect` runs,
// connects to it and starts them. docs/socket.md specifies the messages.
package remote

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
)

// Version is the version of these messages. It is independent of the worker protocol,
// whose frames are forwarded unread.
const Version = 1

// maxLine bounds one message. The longest has a child's last lines on stderr.
const maxLine = 256 << 10

// maxHello bounds the first line of a connection, which any process that can reach the
// socket may send.
const maxHello = 4 << 10

// The types of messages. An unknown type comes from a newer peer and is ignored.
const (
	typeHello   = "hello"   // host: opens a control connection
	typeStdin   = "stdin"   // host: opens the connection of a child's stdin
	typeStdout  = "stdout"  // host: opens the connection of a child's stdout
	typeWelcome = "welcome" // hub: answers hello
	typeRefused = "refused" // hub: answers hello, and closes the connection
	typeStart   = "start"   // hub: start one more child
	typeStarted = "started" // host: the child runs
	typeFailed  = "failed"  // host: the child cannot be started
	typeSignal  = "signal"  // hub: send a signal to the child's process group
	typeExit    = "exit"    // host: the child has ended, and its group is dead
	typeDrain   = "drain"   // host: no more children, the host stops
	typeHangup  = "hangup"  // host: SIGHUP has reached the host
	typeBye     = "bye"     // hub: the sidecar stops without a failure
)

// message is one line of a control connection, or the first line of any connection.
// check says which fields a type has.
type message struct {
	Type string `json:"type"`
	V    int    `json:"v,omitempty"` // of hello and welcome

	Name    string `json:"name,omitempty"`    // of a host, for the log
	Version string `json:"version,omitempty"` // of the binary, for the log

	Child  string   `json:"child,omitempty"`
	Nonce  string   `json:"nonce,omitempty"`   // proves that a data connection belongs to the child
	Mark   string   `json:"process,omitempty"` // the child's SIDECAR_PROCESS_ID
	Env    []string `json:"env,omitempty"`     // additional variables from the sidecar
	PID    int      `json:"pid,omitempty"`     // in the host's container
	Signal int      `json:"signal,omitempty"`
	Code   int      `json:"code,omitempty"`
	Cut    bool     `json:"cut,omitempty"`    // the host ended it, without a fault of the child
	Read   int64    `json:"read,omitempty"`   // bytes that the child has read from its stdin; 0 if unknown
	Stderr string   `json:"stderr,omitempty"` // the last lines of a child that failed
	Reason string   `json:"reason,omitempty"`
}

// maxID bounds ids and nonces, and maxMark a process id, which holds a worker id.
const (
	// maxID bounds ids and nonces, and maxMark a process id, which contains a worker
	// id.
	maxID   = 64
	maxMark = 1024
)

// check returns what is wrong with a message of a known type.
func (m *message) check() error {
	child := m.Child != "" && len(m.Child) <= maxID
	nonce := m.Nonce != "" && len(m.Nonce) <= maxID
	switch m.Type {
	case "":
		return errors.New("it has no type")
	case typeHello, typeWelcome:
		if m.V < 1 {
			return fmt.Errorf("%q has no version", m.Type)
		}
	case typeStdin, typeStdout:
		if !child || !nonce {
			return fmt.Errorf("%q needs a child and its nonce", m.Type)
		}
	case typeStart:
		if !child || !nonce || m.Mark == "" || len(m.Mark) > maxMark {
			return fmt.Errorf("%q needs a child, a nonce and a process id", m.Type)
		}
		if slices.ContainsFunc(append(m.Env, m.Mark), func(s string) bool { return strings.ContainsRune(s, 0) }) {
			return fmt.Errorf("%q has a zero byte in its environment", m.Type)
		}
	case typeStarted:
		if !child || m.PID < 1 {
			return fmt.Errorf("%q needs a child and its pid", m.Type)
		}
	case typeFailed, typeExit:
		if !child {
			return fmt.Errorf("%q needs a child", m.Type)
		}
	case typeSignal:
		if s := syscall.Signal(m.Signal); !child || s != syscall.SIGTERM && s != syscall.SIGKILL {
			return fmt.Errorf("%q needs a child and SIGTERM or SIGKILL", m.Type)
		}
	}
	return nil
}

// decode parses one line.
func decode(line []byte) (message, error) {
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return message{}, fmt.Errorf("a message cannot be read: %w", err)
	}
	if err := m.check(); err != nil {
		return message{}, fmt.Errorf("a message cannot be used: %w", err)
	}
	return m, nil
}

// encode returns the line of a message, with its line end.
func encode(m message) ([]byte, error) {
	line, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	if len(line) > maxLine {
		return nil, fmt.Errorf("a message of type %q has %d bytes, more than %d", m.Type, len(line), maxLine)
	}
	return append(line, '\n'), nil
}

// sayTimeout bounds the writing of one message. A peer that does not read the few
// messages of a control connection has gone.
const sayTimeout = 5 * time.Second

// say writes a message. One goroutine may write at a time.
func say(conn net.Conn, m message) error {
	line, err := encode(m)
	if err != nil {
		return err
	}
	if err := conn.SetWriteDeadline(time.Now().Add(sayTimeout)); err != nil {
		return err
	}
	_, err = conn.Write(line)
	return err
}

// first reads the first line of a connection, and no byte of what follows, which may be
// a worker's output.
func first(conn io.Reader) (message, error) {
	var line []byte
	one := make([]byte, 1)
	for {
		if _, err := io.ReadFull(conn, one); err != nil {
			return message{}, err
		}
		if one[0] == '\n' {
			return decode(bytes.TrimSuffix(line, []byte{'\r'}))
		}
		if line = append(line, one[0]); len(line) > maxHello {
			return message{}, fmt.Errorf("its first line is longer than %d bytes", maxHello)
		}
	}
}

// listen calls handle for every further message until the connection ends, and returns
// why: io.EOF if the peer closed it between messages.
func listen(conn io.Reader, handle func(message)) error {
	lines := protocol.NewLineReader(conn, maxLine)
	for {
		line, err := lines.Next()
		if err != nil {
			return err
		}
		m, err := decode(line)
		if err != nil {
			return err
		}
		handle(m)
	}
}
