package faultproxy

import (
	"bufio"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
)

func TestReadCommand(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		name string
		args []string
		err  error
	}{
		"array":        {"*2\r\n$3\r\nget\r\n$1\r\nk\r\n", "GET", []string{"k"}, nil},
		"binary":       {"*2\r\n$4\r\nECHO\r\n$4\r\n\r\n*1\r\n", "ECHO", []string{"\r\n*1"}, nil},
		"inline":       {"ping  x\r\n", "PING", []string{"x"}, nil},
		"empty line":   {"\r\n", "", nil, nil},
		"empty array":  {"*0\r\n", "", nil, nil},
		"end":          {"", "", nil, io.EOF},
		"cut short":    {"*2\r\n$3\r\nge", "", nil, io.ErrUnexpectedEOF},
		"not a length": {"*x\r\n", "", nil, errProtocol},
		"too long":     {"*1\r\n$999999999999\r\n", "", nil, errProtocol},
		"no bulk":      {"*1\r\n+x\r\n", "", nil, errProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			cmd, raw, err := readCommand(bufio.NewReader(strings.NewReader(c.in)))
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v, want %v", err, c.err)
			}
			if err == nil && (cmd.Name != c.name || !slices.Equal(cmd.Args, c.args) || string(raw) != c.in) {
				t.Errorf("%+v of %q", cmd, raw)
			}
		})
	}
}
