package protocol

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// conn is a worker in this process, and the sidecar's side of it. It lives in a
// synctest bubble, so that time is exact.
type conn struct {
	t       *testing.T
	w       *io.PipeWriter
	stdout  *io.PipeReader
	lines   chan string // what the worker wrote; closed at its end
	signals chan os.Signal
	cancel  context.CancelCauseFunc
	result  chan error
}

// serve runs test against a worker that has been initialized.
func serve(t *testing.T, h Handler, test func(t *testing.T, c *conn), opts ...Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := start(t, h, opts...)
		c.send(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":1,"limits":{"maxMessageBytes":16777216}}}`)
		c.want(`{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":1,"worker":{"name":"test","version":"1"},"concurrency":` + c.concurrency(opts) + `,"capabilities":{"channels":{}}}}`)
		test(t, c)
	})
}

func start(t *testing.T, h Handler, opts ...Option) *conn {
	stdin, w := io.Pipe()
	r, stdout := io.Pipe()
	ctx, cancel := context.WithCancelCause(t.Context())
	c := &conn{
		t: t, w: w, stdout: r,
		lines:   make(chan string, 1000),
		signals: make(chan os.Signal, 1),
		cancel:  cancel,
		result:  make(chan error, 1),
	}
	opts = append([]Option{WithIO(stdin, stdout), withSignals(c.signals), WithInfo("test", "1")}, opts...)
	go func() {
		err := Serve(ctx, h, opts...)
		stdout.Close()
		c.result <- err
	}()
	go func() {
		defer close(c.lines)
		out := NewLineReader(r, 64<<20)
		for {
			line, err := out.Next()
			if err != nil {
				return
			}
			c.lines <- string(line)
		}
	}()
	t.Cleanup(func() {
		w.Close()
		r.Close()
		cancel(nil)
	})
	return c
}

func (c *conn) concurrency(opts []Option) string {
	o := options{concurrency: 1}
	for _, opt := range opts {
		opt(&o)
	}
	return fmt.Sprint(o.concurrency)
}

func (c *conn) send(line string) {
	c.t.Helper()
	if _, err := io.WriteString(c.w, line+"\n"); err != nil {
		c.t.Fatal(err)
	}
}

// run sends a task/run with the record given.
func (c *conn) run(id int, record string) {
	c.t.Helper()
	c.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"method":"task/run","params":{"delivery":"r.%[1]d","record":%s,"attempt":1}}`, id, record))
}

func (c *conn) next() string {
	c.t.Helper()
	var line string
	select {
	case line = <-c.lines:
	case <-time.After(time.Minute):
		c.t.Fatal("the worker writes nothing")
	}
	if _, err := DecodeMessage([]byte(line)); err != nil {
		c.t.Fatalf("the worker wrote %q: %v", line, err)
	}
	return line
}

func (c *conn) want(line string) {
	c.t.Helper()
	if got := c.next(); got != line {
		c.t.Fatalf("got  %.500s\nwant %.500s", got, line)
	}
}

// message reads a message that is not compared as a whole.
func (c *conn) message() Message {
	c.t.Helper()
	m, err := DecodeMessage([]byte(c.next()))
	if err != nil {
		c.t.Fatal(err)
	}
	return m
}

func (c *conn) wantResult(id int, result string) {
	c.t.Helper()
	c.want(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,"result":%s}`, id, result))
}

func (c *conn) wantCode(id string, code Code) {
	c.t.Helper()
	if m := c.message(); string(m.ID) != id || !errors.Is(m.Error, code) {
		c.t.Fatalf("got id %s, %v; want id %s, %v", m.ID, m.Error, id, code)
	}
}

// silence checks that the worker has nothing to say for now.
func (c *conn) silence() {
	c.t.Helper()
	synctest.Wait()
	select {
	case line, ok := <-c.lines:
		c.t.Fatalf("got %s (%v), want nothing", line, ok)
	default:
	}
}

// end checks how Serve returned, and that nothing more was written.
func (c *conn) end(want error) {
	c.t.Helper()
	if line, more := <-c.lines; more {
		c.t.Errorf("at the end: %s", line)
	}
	if err := <-c.result; !errors.Is(err, want) {
		c.t.Errorf("Serve returned %v, want %v", err, want)
	}
}

func (c *conn) shutdown() {
	c.t.Helper()
	c.send(`{"jsonrpc":"2.0","method":"shutdown","params":{"budgetMs":20000}}`)
	c.end(nil)
}
