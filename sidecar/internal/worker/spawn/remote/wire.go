// Package remote runs worker processes in another container than the sidecar's:
// pipes do not reach there, a Unix socket in a shared volume does. A Hub listens
// on it and makes the processes that the pool asks for; a Host, which is what
// `sidecar connect` runs, connects to it and starts them. docs/socket.md specifies the
// messages.
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

// Version is that of the messages here. It has nothing to do with the worker
// protocol's, whose frames pass by unread.
const Version = 1

// maxLine bounds one message. The longest holds a child's last lines on stderr.
const maxLine = 256 << 10

// maxHello bounds the first line of a connection, which comes from any process that
// can reach the socket.
const maxHello = 4 << 10

// The types of messages. An unknown type comes from a newer peer and is ignored.
const (
	typeHello   = "hello"   // host: opens a control connection
	typeStdin   = "stdin"   // host: opens the connection of a child's stdin
	typeStdout  = "stdout"  // host: opens the connection of a child's stdout
	typeWelcome = "welcome" // hub: answers hello
	typeRefused = "refused" // hub: answers hello, and closes the connection
	typeStart   = "start"   // hub: one more child is wanted
	typeStarted = "started" // host: it runs
	typeFailed  = "failed"  // host: it cannot be started
	typeSignal  = "signal"  // hub: to the child's process group
	typeExit    = "exit"    // host: it has ended, and its group is dead
	typeDrain   = "drain"   // host: give me nothing more, I am going
	typeHangup  = "hangup"  // host: SIGHUP has reached me
	typeBye     = "bye"     // hub: the sidecar stops, this is no failure
)

// message is one line of a control connection, or the first of any connection. check
// says which fields a type has.
type message struct {
	Type string `json:"type"`
	V    int    `json:"v,omitempty"` // of hello and welcome

	Name    string `json:"name,omitempty"`    // of a host, for people
	Version string `json:"version,omitempty"` // of the binary, for people

	Child  string   `json:"child,omitempty"`
	Nonce  string   `json:"nonce,omitempty"`   // proves that a data connection is that child's
	Mark   string   `json:"process,omitempty"` // its SIDECAR_PROCESS_ID
	Env    []string `json:"env,omitempty"`     // what the sidecar gives it besides
	PID    int      `json:"pid,omitempty"`     // in the host's own container
	Signal int      `json:"signal,omitempty"`
	Code   int      `json:"code,omitempty"`
	Cut    bool     `json:"cut,omitempty"`    // its host ended it, it did nothing wrong
	Read   int64    `json:"read,omitempty"`   // how many bytes of its stdin a child has read; 0 if that is not known
	Stderr string   `json:"stderr,omitempty"` // the last lines of one that failed
	Reason string   `json:"reason,omitempty"`
}

// maxID bounds ids and nonces, and maxMark a process id, which holds a worker id.
const (
	maxID   = 64
	maxMark = 1024
)

// check says what is wrong with a message of a known type.
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

// decode reads one line.
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

// encode gives the line, with its end.
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

// sayTimeout bounds the writing of one message: a peer that does not read the few
// that there are is gone.
const sayTimeout = 5 * time.Second

// say writes a message. One goroutine at a time.
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

// first reads the first line of a connection and not one byte more: what
// follows may be a worker's output.
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

// listen hands every further message to handle until the connection ends, and
// returns why: io.EOF where the peer closed it between messages.
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
