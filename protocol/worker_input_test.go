package protocol

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

func TestServeInitialize(t *testing.T) {
	const ok = `{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":1}}`
	const answered = `{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":1,"worker":{"name":"test","version":"1"},"concurrency":1,"capabilities":{"channels":{}}}}`
	failed := func(id string, code Code, message string) string {
		return string(AppendError(nil, []byte(id), &Error{Code: code, Message: message}))
	}
	tests := []struct {
		name        string
		lines, want []string
	}{
		{"P16 the version offered", []string{ok}, []string{answered}},
		{"P16 a later version is offered", []string{strings.Replace(ok, ":1}", ":7}", 1)}, []string{answered}},
		{
			"P16 an earlier one is not spoken",
			[]string{strings.Replace(ok, ":1}", ":0}", 1)},
			[]string{failed("0", CodeInvalidParams, "this worker speaks version 1 of the protocol, not 0")},
		},
		{
			"params of another shape",
			[]string{`{"jsonrpc":"2.0","id":0,"method":"initialize","params":[]}`},
			[]string{failed("0", CodeInvalidParams, "initialize: json: cannot unmarshal array into Go value of type protocol.InitializeParams")},
		},
		{"P15 once", []string{ok, strings.Replace(ok, ":0,", ":5,", 1)}, []string{answered, failed("5", CodeInvalidRequest, "initialize comes once")}},
		{
			"P15 first",
			[]string{`{"jsonrpc":"2.0","id":3,"method":"task/run","params":{"delivery":"r.1","record":1}}`, ok},
			[]string{failed("3", CodeInvalidRequest, "initialize comes first"), answered},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := start(t, answer)
				for i, line := range tt.lines {
					c.send(line)
					c.want(tt.want[i])
				}
				c.shutdown()
			})
		})
	}
}

func TestServeInput(t *testing.T) {
	tests := []struct {
		name, line, want string // want: an id and a code, or nothing
	}{
		{"P13 an unknown request", `{"jsonrpc":"2.0","id":1,"method":"x/y"}`, "1 -32601"},
		{"P13 an unknown request with a long name", `{"jsonrpc":"2.0","id":1,"method":"` + strings.Repeat("x", 4000) + `"}`, "1 -32601"},
		{"P13 an unknown notification", `{"jsonrpc":"2.0","method":"$/x"}`, ""},
		{"a response to nothing", `{"jsonrpc":"2.0","id":1,"result":1}`, ""},
		{"an empty line", ``, ""},
		{"a line of spaces", " \t ", ""},
		{"P2 not JSON", `hello`, "null -32700"},
		{"P11 a broken message with an id", `{"jsonrpc":"2.0","id":"a","method":"task/run","params":NaN}`, `"a" -32700`},
		{"params of task/run", `{"jsonrpc":"2.0","id":1,"method":"task/run","params":{"record":1}}`, "1 -32602"},
		{"no params of task/run", `{"jsonrpc":"2.0","id":1,"method":"task/run"}`, "1 -32602"},
		{"P10 an id in use", `{"jsonrpc":"2.0","id":77,"method":"task/run","params":{"delivery":"r.2","record":1}}`, "77 -32600"},
		{"P4 a long message with an id", `{"jsonrpc":"2.0","id":5,"method":"task/run","params":"` + strings.Repeat("x", 8000), "5 -32600"},
		{"P4 a long line", strings.Repeat("x", 8000), "null -32600"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			serve(t, untilCancelled, func(t *testing.T, c *conn) {
				c.run(77, "1")
				c.send(tt.line)
				if tt.want != "" {
					m := c.message()
					if m.Error == nil || fmt.Sprintf("%s %d", m.ID, m.Error.Code) != tt.want {
						t.Errorf("got %s %v, want %s", m.ID, m.Error, tt.want)
					}
				}
				c.silence()
				c.send(`{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":77}}`)
				c.wantCode("77", CodeCancelled)
				c.shutdown()
			}, WithMaxMessageBytes(4096))
		})
	}
}

// What is too long to be sent is a failed task, never a broken line (P4).
func TestServeResultOverTheLimit(t *testing.T) {
	long := strings.Repeat("ä", 4000)
	tests := []struct {
		name string
		h    Handler
		want string
	}{
		{
			"a value", func(context.Context, *Task) (any, error) { return long, nil },
			`{"status":"failed","error":{"type":"ValueError","message":"the task's value is too large: 8002 bytes as JSON, and a message may have 4096 (maxMessageBytes)","retryable":false}}`,
		},
		{
			"an error text", func(context.Context, *Task) (any, error) { return nil, Retryable(errors.New(long)) },
			`{"status":"failed","error":{"type":"error","message":"` + long[:256] + `… (8000 bytes)","retryable":true}}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := start(t, tt.h)
				c.send(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":1,"limits":{"maxMessageBytes":4096}}}`)
				c.message()
				c.run(1, "1")
				c.wantResult(1, tt.want)
				c.shutdown()
			})
		})
	}
}

// A notification that cannot be sent is dropped, and does no harm.
func TestServeBadLog(t *testing.T) {
	h := func(_ context.Context, task *Task) (any, error) {
		task.Log(0, "over the limit", "x", strings.Repeat("x", 5000))
		task.Log(0, "nested too deep", "x", json.RawMessage(nested(MaxDepth)))
		task.Log(0, "not UTF-8", "x", json.RawMessage("\"\xff\""))
		return nil, nil
	}
	serve(t, h, func(_ *testing.T, c *conn) {
		c.run(1, "1")
		c.wantResult(1, `{"status":"succeeded"}`)
		c.shutdown()
	}, WithMaxMessageBytes(1))
}

// A sidecar that is slow to read slows the worker down; nothing is lost, and
// what waits is bounded.
func TestServeSlowReader(t *testing.T) {
	const n = 50
	value := strings.Repeat("x", 200_000)
	serve(t, func(context.Context, *Task) (any, error) { return value, nil }, func(t *testing.T, c *conn) {
		for id := 1; id <= n; id++ {
			c.run(id, "1")
		}
		answered := map[string]bool{}
		for range n {
			m := c.message()
			if want := `{"status":"succeeded","value":"` + value + `"}`; string(m.Result) != want {
				t.Fatalf("%d bytes came for task %s, want %d", len(m.Result), m.ID, len(want))
			}
			answered[string(m.ID)] = true
		}
		if len(answered) != n {
			t.Errorf("%d tasks were answered, want %d", len(answered), n)
		}
		c.shutdown()
	}, WithConcurrency(8))
}
