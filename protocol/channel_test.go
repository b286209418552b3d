package protocol

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// asks runs a handler that asks, against the answers of a sidecar: each request
// must be want, and gets answer.
func asks(t *testing.T, do func(ctx context.Context, task *Task) (any, error), exchanges [][2]string, result string) {
	t.Helper()
	serve(t, do, func(t *testing.T, c *conn) {
		c.run(7, `{"task_id":"x"}`)
		for i, e := range exchanges {
			c.want(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,%s}`, i+1, e[0]))
			c.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%d,%s}`, i+1, e[1]))
		}
		c.wantResult(7, result)
		c.shutdown()
	})
}

func TestChannel(t *testing.T) {
	for _, c := range []struct {
		name      string
		do        func(ctx context.Context, ch Channel) (any, error)
		want, got string // the request's method and params; the answer
		result    string
	}{
		{
			"get", func(ctx context.Context, ch Channel) (any, error) {
				var v struct{ A []float64 }
				found, err := ch.Get(ctx, ResultKey("ä"), &v)
				return []any{found, v.A}, err
			},
			`"method":"channel/get","params":{"delivery":"r.7","key":"ä.__result__"}`,
			`"result":{"found":true,"value":{"a":[1,2.5]}}`, `[true,[1,2.5]]`,
		},
		{
			"get nothing", func(ctx context.Context, ch Channel) (any, error) {
				v := "as before"
				found, err := ch.Get(ctx, "k", &v)
				return []any{found, v}, err
			},
			`"method":"channel/get","params":{"delivery":"r.7","key":"k"}`,
			`"result":{"found":false}`, `[false,"as before"]`,
		},
		{
			"get null", func(ctx context.Context, ch Channel) (any, error) {
				var v json.RawMessage
				found, err := ch.Get(ctx, "k", &v)
				return []any{found, string(v)}, err
			},
			`"method":"channel/get","params":{"delivery":"r.7","key":"k"}`,
			`"result":{"found":true,"value":null}`, `[true,"null"]`,
		},
		{
			"get NaN", func(ctx context.Context, ch Channel) (any, error) {
				var f float64
				_, err := ch.Get(ctx, "k", &f)
				return fmt.Sprint(f), err
			},
			`"method":"channel/get","params":{"delivery":"r.7","key":"k"}`,
			`"result":{"found":true,"valueText":"NaN"}`, `"NaN"`,
		},
		{
			"get a big integer", func(ctx context.Context, ch Channel) (any, error) {
				var n uint64
				_, err := ch.Get(ctx, "k", &n)
				return fmt.Sprint(n), err
			},
			`"method":"channel/get","params":{"delivery":"r.7","key":"k"}`,
			`"result":{"found":true,"valueText":"18446744073709551615"}`, `"18446744073709551615"`,
		},
		{
			"get all", func(ctx context.Context, ch Channel) (any, error) {
				all, err := ch.GetAll(ctx, "a", `b"`)
				if err != nil {
					return nil, err
				}
				return []any{all[0].Found, string(all[0].Text()), all[1].Found}, err
			},
			`"method":"channel/get","params":{"delivery":"r.7","keys":["a","b\""]}`,
			`"result":{"values":[{"found":true,"valueText":"[Infinity]"},{"found":false}]}`, `[true,"[Infinity]",false]`,
		},
		{
			"set", func(ctx context.Context, ch Channel) (any, error) {
				return nil, ch.Set(ctx, "k", map[string]any{"html": "<&>", "f": 1.5})
			},
			`"method":"channel/set","params":{"delivery":"r.7","key":"k","value":{"f":1.5,"html":"<&>"}}`, `"result":{}`, "",
		},
		{
			"set infinity, for a moment", func(ctx context.Context, ch Channel) (any, error) {
				return nil, ch.SetFor(ctx, "k", math.Inf(-1), time.Microsecond)
			},
			`"method":"channel/set","params":{"delivery":"r.7","key":"k","valueText":"-Infinity","ttlMs":1}`, `"result":{}`, "",
		},
		{
			"set a big integer", func(ctx context.Context, ch Channel) (any, error) { return nil, ch.Set(ctx, "k", int64(math.MaxInt64)) },
			`"method":"channel/set","params":{"delivery":"r.7","key":"k","valueText":"9223372036854775807"}`, `"result":{}`, "",
		},
		{
			"delete", func(ctx context.Context, ch Channel) (any, error) { return ch.Delete(ctx, "k") },
			`"method":"channel/delete","params":{"delivery":"r.7","key":"k"}`, `"result":{"deleted":true}`, "true",
		},
		{
			"exists", func(ctx context.Context, ch Channel) (any, error) { return ch.Exists(ctx, "k") },
			`"method":"channel/exists","params":{"delivery":"r.7","key":"k"}`, `"result":{"exists":true}`, "true",
		},
		{
			"keys", func(ctx context.Context, ch Channel) (any, error) { return ch.Keys(ctx) },
			`"method":"channel/keys","params":{"delivery":"r.7"}`, `"result":{"keys":["a","b"]}`, `["a","b"]`,
		},
		{
			"append", func(ctx context.Context, ch Channel) (any, error) {
				return ch.Append(ctx, "l", 1, 1500*time.Microsecond)
			},
			`"method":"channel/append","params":{"delivery":"r.7","key":"l","value":1,"ttlMs":2}`, `"result":{"length":3}`, "3",
		},
		{
			"prepend", func(ctx context.Context, ch Channel) (any, error) { return ch.Prepend(ctx, "l", "x", 0) },
			`"method":"channel/prepend","params":{"delivery":"r.7","key":"l","value":"x"}`, `"result":{"length":4}`, "4",
		},
		{
			"add", func(ctx context.Context, ch Channel) (any, error) { return ch.Add(ctx, "n", -0.5) },
			`"method":"channel/add","params":{"delivery":"r.7","key":"n","amount":-0.5}`, `"result":{"value":1.5}`, "1.5",
		},
		{
			"add to a big one", func(ctx context.Context, ch Channel) (any, error) {
				n, err := ch.Add(ctx, "n", 1)
				return n.String(), err
			},
			`"method":"channel/add","params":{"delivery":"r.7","key":"n","amount":1}`, `"result":{"valueText":"9007199254740993"}`, `"9007199254740993"`,
		},
		{
			"no lock", func(ctx context.Context, ch Channel) (any, error) {
				l, err := ch.Lock(ctx, "k", time.Second)
				return l == nil, err
			},
			`"method":"channel/lock","params":{"delivery":"r.7","key":"k","timeoutMs":1000}`, `"result":{"token":null}`, "true",
		},
		{
			"enqueue", func(ctx context.Context, ch Channel) (any, error) {
				return nil, ch.t.Enqueue(ctx, map[string]any{"task_id": "next", "n": 1})
			},
			`"method":"task/enqueue","params":{"delivery":"r.7","record":{"n":1,"task_id":"next"}}`, `"result":{}`, "",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			result := `{"status":"succeeded"}`
			if c.result != "" {
				result = `{"status":"succeeded","value":` + c.result + `}`
			}
			asks(t, func(ctx context.Context, task *Task) (any, error) { return c.do(ctx, task.Channel()) }, [][2]string{{c.want, c.got}}, result)
		})
	}
}

func TestChannelLock(t *testing.T) {
	asks(t, func(ctx context.Context, task *Task) (any, error) {
		l, err := task.Channel().Lock(ctx, "k", 10*time.Second)
		if err != nil {
			return nil, err
		}
		return l.Unlock(ctx)
	}, [][2]string{
		{`"method":"channel/lock","params":{"delivery":"r.7","key":"k","timeoutMs":10000}`, `"result":{"token":"t"}`},
		{`"method":"channel/unlock","params":{"delivery":"r.7","key":"k","token":"t"}`, `"result":{"released":true}`},
	}, `{"status":"succeeded","value":true}`)
}

// What the sidecar answers with an error is one; what is Redis' fault is worth
// another delivery.
func TestChannelErrors(t *testing.T) {
	request := `"method":"channel/exists","params":{"delivery":"r.7","key":"k"}`
	for code, retryable := range map[Code]string{CodeInvalidParams: "false", CodeMethodNotFound: "false", CodeInternal: "true"} {
		asks(t, func(ctx context.Context, task *Task) (any, error) {
			_, err := task.Channel().Exists(ctx, "k")
			if !errors.Is(err, code) {
				t.Errorf("got %v, want %v", err, code)
			}
			return nil, err
		}, [][2]string{{request, fmt.Sprintf(`"error":{"code":%d,"message":"because"}`, int(code))}},
			fmt.Sprintf(`{"status":"failed","error":{"type":"protocol.Error","message":"because (%d)","retryable":%s}}`, int(code), retryable))
	}
}

// Nothing goes out that could not be read.
func TestChannelRefuses(t *testing.T) {
	asks(t, func(ctx context.Context, task *Task) (any, error) {
		ch := task.Channel()
		for what, err := range map[string]error{
			"a channel":       ch.Set(ctx, "k", make(chan int)),
			"NaN in a list":   ch.Set(ctx, "k", []float64{math.NaN()}),
			"bytes":           ch.Set(ctx, "k", json.RawMessage("\xff")),
			"no JSON record":  task.Enqueue(ctx, json.RawMessage("{")),
			"too long":        ch.Set(ctx, "k", strings.Repeat("x", 17<<20)),
			"an infinite sum": func() error { _, err := ch.Add(ctx, "k", math.Inf(1)); return err }(),
		} {
			if err == nil {
				t.Errorf("%s: no error", what)
			}
		}
		return nil, nil
	}, nil, `{"status":"succeeded"}`)
	if err := (&Task{}).Channel().Set(t.Context(), "k", 1); !errors.Is(err, ErrNotServed) {
		t.Errorf("a task of a test's own: %v", err)
	}
}

// A call that waits ends with its context and with the sidecar; answers that
// come later, or to nothing, are passed over.
func TestChannelCancelled(t *testing.T) {
	var task *Task
	serve(t, func(ctx context.Context, x *Task) (any, error) {
		task = x
		_, err := x.Channel().Lock(ctx, "k", time.Minute)
		return nil, err
	}, func(t *testing.T, c *conn) {
		c.run(7, `{}`)
		c.next()
		c.send(`{"jsonrpc":"2.0","method":"$/cancelRequest","params":{"id":7}}`)
		c.wantCode("7", CodeCancelled)
		c.send(`{"jsonrpc":"2.0","id":1,"result":{"token":"late"}}`)
		c.send(`{"jsonrpc":"2.0","id":99,"result":{}}`)
		c.send(`{"jsonrpc":"2.0","id":"x","error":{"code":-32603,"message":"m"}}`)
		if _, err := task.Channel().Exists(t.Context(), "k"); !errors.Is(err, CodeDeliveryEnded) {
			t.Errorf("after its end: %v", err)
		}
		c.run(8, `{}`)
		c.next()
		c.w.Close()
		if m := c.message(); m.Error == nil && !strings.Contains(string(m.Result), "the sidecar is gone") {
			t.Errorf("got %s", m.Result)
		}
		c.end(ErrOrphaned)
	})
}

// An answer over the worker's own limit is an error for the task that requested it,
// and nothing for the sidecar, which has a request of the same id.
func TestChannelAnswerTooLong(t *testing.T) {
	serve(t, func(ctx context.Context, x *Task) (any, error) {
		var s string
		_, err := x.Channel().Get(ctx, "k", &s)
		return nil, err
	}, func(t *testing.T, c *conn) {
		c.run(1, `{}`)
		c.want(`{"jsonrpc":"2.0","id":1,"method":"channel/get","params":{"delivery":"r.1","key":"k"}}`)
		c.send(`{"jsonrpc":"2.0","id":1,"result":{"found":true,"value":"` + strings.Repeat("method", 1000) + `"}}`)
		if m := c.message(); string(m.ID) != "1" || !strings.Contains(string(m.Result), "over this worker's limit") {
			t.Errorf("got %s, %v", m.Result, m.Error)
		}
		c.shutdown()
	}, WithMaxMessageBytes(4096))
}

// Answers come in any order.
func TestChannelManyAtOnce(t *testing.T) {
	const n = 20
	serve(t, func(ctx context.Context, x *Task) (any, error) {
		sums := make(chan string, n)
		for i := range n {
			go func() {
				sum, err := x.Channel().Add(ctx, fmt.Sprint("k", i), 1)
				if want := fmt.Sprint(i); err != nil || sum.String() != want {
					t.Errorf("k%d: %v, %v", i, sum, err)
				}
				sums <- sum.String()
			}()
		}
		for range n {
			<-sums
		}
		return nil, nil
	}, func(t *testing.T, c *conn) {
		c.run(7, `{}`)
		var asked []Message
		for range n {
			asked = append(asked, c.message())
		}
		for i := range n {
			m := asked[n-1-i]
			a, err := DecodeTaskRequest(m.Method, m.Params)
			if err != nil {
				t.Fatal(err)
			}
			c.send(fmt.Sprintf(`{"jsonrpc":"2.0","id":%s,"result":{"value":%s}}`, m.ID, strings.TrimPrefix(a.Key, "k")))
		}
		c.wantResult(7, `{"status":"succeeded"}`)
		c.shutdown()
	})
}

func TestInputsOfATask(t *testing.T) {
	serve(t, func(_ context.Context, x *Task) (any, error) {
		var a []float64
		var f float64
		var raw json.RawMessage
		foundA, err1 := x.Input("a", &a)
		foundF, err2 := x.Input("f", &f)
		foundRaw, err3 := x.Input("f", &raw)
		gone, err4 := x.Input("gone", &raw)
		_, bad := x.Input("a", &f)
		return strings.TrimSpace(fmt.Sprintln(a, f, string(raw), foundA, foundF, foundRaw, gone, bad, len(x.Inputs()))), errors.Join(err1, err2, err3, err4)
	}, func(_ *testing.T, c *conn) {
		c.send(`{"jsonrpc":"2.0","id":7,"method":"task/run","params":{"delivery":"r.7","record":{},"inputs":{"a":{"value":[1,2.5]},"f":{"valueText":"NaN"}}}}`)
		c.wantResult(7, `{"status":"succeeded","value":"[1 2.5] NaN NaN true true true false input a: json: cannot unmarshal array into Go value of type float64 2"}`)
		c.shutdown()
	})
}

func TestInputsAreDeclared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, func(context.Context, *Task) (any, error) { return nil, nil }, WithInputs("etl.*", "x", "y"), WithInputs("*", "z"))
		c.send(`{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":1}}`)
		c.want(`{"jsonrpc":"2.0","id":0,"result":{"protocolVersion":1,"worker":{"name":"test","version":"1"},"concurrency":1,"capabilities":{"channels":{}},"inputs":{"*":["z"],"etl.*":["x","y"]}}}`)
		c.shutdown()
	})
}
