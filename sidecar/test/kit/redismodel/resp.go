package redismodel

import (
	"bufio"
	"errors"
	"io"
	"strconv"
	"strings"
)

// protocolError is the error of a client that does not keep to the protocol. Its
// connection gets the text and is closed.
type protocolError string

func (e protocolError) Error() string { return string(e) }

// readCommand reads an array of bulk strings. maxBulk returns the most bytes of one.
func readCommand(r *bufio.Reader, maxBulk func() int64) ([]string, error) {
	for {
		line, err := readLine(r)
		if err != nil {
			return nil, err
		}
		if line == "" {
			continue
		}
		if line[0] != '*' {
			return strings.Fields(line), nil
		}
		n, err := strconv.Atoi(line[1:])
		if err != nil || n > 1<<20 {
			return nil, protocolError("ERR Protocol error: invalid multibulk length")
		}
		if n <= 0 {
			continue
		}
		return readBulks(r, n, maxBulk)
	}
}

func readBulks(r *bufio.Reader, n int, maxBulk func() int64) ([]string, error) {
	args := make([]string, n)
	for i := range args {
		line, err := readLine(r)
		if err != nil {
			return nil, err
		}
		if line == "" || line[0] != '$' {
			return nil, protocolError("ERR Protocol error: expected '$', got '" + line[:min(len(line), 1)] + "'")
		}
		size, err := strconv.ParseInt(line[1:], 10, 64)
		if err != nil || size < 0 || size > maxBulk() {
			return nil, protocolError("ERR Protocol error: invalid bulk length")
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(r, text); err != nil {
			return nil, err
		}
		args[i] = string(text[:size])
	}
	return args, nil
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", protocolError("ERR Protocol error: too big mbulk count string")
	}
	return strings.TrimRight(string(line), "\r\n"), err
}

// appendReply appends a reply in a version of the protocol, 2 or 3.
func appendReply(b []byte, r Reply, version int) []byte {
	head := func(sign byte, n int64) {
		b = append(b, sign)
		b = strconv.AppendInt(b, n, 10)
		b = append(b, '\r', '\n')
	}
	switch r.Kind {
	case none, block:
	case Nil, NilArray:
		switch {
		case version == 3:
			b = append(b, "_\r\n"...)
		case r.Kind == Nil:
			b = append(b, "$-1\r\n"...)
		default:
			b = append(b, "*-1\r\n"...)
		}
	case Int:
		head(':', r.Int)
	case Status, Error:
		b = append(b, sign(r.Kind))
		b = append(append(b, r.Text...), '\r', '\n')
	case Bulk, Double:
		if r.Kind == Double && version == 3 {
			b = append(append(b, ','), r.Text...)
			return append(b, '\r', '\n')
		}
		head('$', int64(len(r.Text)))
		b = append(append(b, r.Text...), '\r', '\n')
	case pairs:
		if version == 2 {
			r = flat(r)
		}
		head('*', int64(len(r.Array)))
	case Map:
		if version == 3 {
			head('%', int64(len(r.Array)/2))
		} else {
			head('*', int64(len(r.Array)))
		}
	case Set:
		if version == 3 {
			head('~', int64(len(r.Array)))
		} else {
			head('*', int64(len(r.Array)))
		}
	case Array:
		head('*', int64(len(r.Array)))
	case push3:
		if version == 3 {
			head('>', int64(len(r.Array)))
		} else {
			head('*', int64(len(r.Array)))
		}
	}
	for _, e := range r.Array {
		b = appendReply(b, e, version)
	}
	return b
}

func sign(k Kind) byte {
	if k == Error {
		return '-'
	}
	return '+'
}
