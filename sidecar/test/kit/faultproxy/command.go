package faultproxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Command is one request on its way to Redis.
type Command struct {
	// Name is the command in capitals: EVALSHA, BLMOVE, PING …
	Name string
	// Args are what follows the name. A rule may keep them.
	Args []string
	// Conn numbers the client's connections, from 1.
	Conn int
	// Seq numbers the commands of a connection, from 1.
	Seq int
}

// maxRequest bounds the lengths that a request declares, since the proxy reads a
// whole request into memory.
const maxRequest = 256 << 20

var errProtocol = errors.New("not a Redis request")

// readCommand reads one request and returns it with its bytes. Clients send
// arrays of bulk strings; anything else is passed on as one line.
func readCommand(r *bufio.Reader) (cmd Command, raw []byte, err error) {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return Command{}, line, err
	}
	raw = line
	if line[0] != '*' {
		fields := strings.Fields(string(line))
		if len(fields) > 0 {
			cmd = Command{Name: strings.ToUpper(fields[0]), Args: fields[1:]}
		}
		return cmd, raw, nil
	}
	n, err := length(line)
	if err != nil {
		return Command{}, raw, err
	}
	words := make([]string, 0, min(n, 64))
	for range n {
		head, err := r.ReadBytes('\n')
		raw = append(raw, head...)
		if err != nil {
			return Command{}, raw, err
		}
		if head[0] != '$' {
			return Command{}, raw, fmt.Errorf("%w: %q in an array", errProtocol, head)
		}
		size, err := length(head)
		if err != nil {
			return Command{}, raw, err
		}
		at := len(raw)
		raw = append(raw, make([]byte, size+2)...) // with CRLF
		if _, err := io.ReadFull(r, raw[at:]); err != nil {
			return Command{}, raw[:at], err
		}
		words = append(words, string(raw[at:at+size]))
	}
	if len(words) > 0 {
		cmd = Command{Name: strings.ToUpper(words[0]), Args: words[1:]}
	}
	return cmd, raw, nil
}

func length(line []byte) (int, error) {
	n, err := strconv.Atoi(string(bytes.TrimRight(line[1:], "\r\n")))
	if err != nil || n < 0 || n > maxRequest {
		return 0, fmt.Errorf("%w: length %q", errProtocol, line)
	}
	return n, nil
}
