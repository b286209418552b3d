package protocol

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// brokenError panics when asked what it says.
type brokenError struct{}

func (*brokenError) Error() string { panic("no text") }

func TestServeAnswers(t *testing.T) {
	value := func(v any) Handler { return func(context.Context, *Task) (any, error) { return v, nil } }
	fails := func(err error) Handler { return func(context.Context, *Task) (any, error) { return nil, err } }
	const failed = `{"status":"failed","error":{"type":`
	tests := []struct {
		name string
		h    Handler
		want string
	}{
		{"P23 no value", value(nil), `{"status":"succeeded"}`},
		{"P23 a value", value(map[string]any{"a": []int{1}, "b": "<ä>\n"}), `{"status":"succeeded","value":{"a":[1],"b":"<ä>\n"}}`},
		{"P23 raw JSON", value(json.RawMessage("[1,\r\n 2]")), `{"status":"succeeded","value":[1,   2]}`},
		{"P23 raw nothing", value(json.RawMessage(nil)), `{"status":"succeeded"}`},
		{"P23 raw null", value(json.RawMessage("null")), `{"status":"succeeded","value":null}`},
		{"P25 an integer beyond 2^53", value(uint64(math.MaxUint64)), `{"status":"succeeded","valueText":"18446744073709551615"}`},
		{"P25 the last safe integer", value(1 << 53), `{"status":"succeeded","value":9007199254740992}`},
		{"a value that JSON has not", value(math.NaN()), failed + `"ValueError","message":"the task's value cannot be written as JSON: json: unsupported value: NaN","retryable":false}}`},
		{"a value that is a function", value(func() {}), failed + `"ValueError","message":"the task's value cannot be written as JSON: json: unsupported type: func()","retryable":false}}`},
		{"raw JSON that is none", value(json.RawMessage("[1,")), failed + `"ValueError","message":"the task's value cannot be sent: not JSON: expected a value at byte 3","retryable":false}}`},
		{"raw bytes that are not UTF-8", value(json.RawMessage("\"\xff\"")), failed + `"ValueError","message":"the task's value cannot be sent: not JSON: not UTF-8 at byte 1","retryable":false}}`},
		{"P12 a value too deep", value(json.RawMessage(nested(MaxDepth - 1))), failed + `"ValueError","message":"the task's value cannot be sent: not JSON: nested too deep at byte 998","retryable":false}}`},
		{"P23 an error", fails(errors.New("no \"luck\"")), failed + `"error","message":"no \"luck\"","retryable":false}}`},
		{"P23 an error of a type", fails(fmt.Errorf("a: %w", &fs.PathError{Op: "open", Path: "/x", Err: syscall.ENOENT})), failed + `"fs.PathError","message":"a: open /x: no such file or directory","retryable":false}}`},
		{"an error text that is not UTF-8", fails(errors.New("\xff")), failed + `"error","message":"\ufffd","retryable":false}}`},
		{"an error that cannot be asked", fails((*brokenError)(nil)), failed + `"protocol.brokenError","message":"*protocol.brokenError, whose Error method panicked: no text","retryable":false}}`},
		{"P24 a retryable error", fails(fmt.Errorf("try: %w", Retryable(io.ErrUnexpectedEOF))), failed + `"error","message":"try: unexpected EOF","retryable":true}}`},
		{"a handler that ends its goroutine", func(context.Context, *Task) (any, error) { runtime.Goexit(); return 1, nil }, failed + `"runtime.Goexit","message":"the handler ended its goroutine","retryable":false}}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			serve(t, tt.h, func(_ *testing.T, c *conn) {
				// Twice: the first must leave the worker as it was.
				for id := 1; id <= 2; id++ {
					c.run(id, "{}")
					c.wantResult(id, tt.want)
				}
				c.shutdown()
			})
		})
	}
}

func TestServePanicIsAFailedTask(t *testing.T) {
	serve(t, func(_ context.Context, _ *Task) (any, error) { panic(errors.New("oh")) }, func(t *testing.T, c *conn) {
		for id := range 2 {
			c.run(id, "{}")
			r, err := DecodeRunResult(c.message().Result)
			if err != nil {
				t.Fatal(err)
			}
			if r.Err == nil || r.Err.Type != "panic" || r.Err.Message != "panic: oh" || !strings.Contains(r.Err.Stack, "TestServePanicIsAFailedTask") {
				t.Errorf("got %+v", r.Err)
			}
		}
		c.shutdown()
	})
}

func TestServeTask(t *testing.T) {
	deadline := time.UnixMilli(4102444800000)
	h := func(ctx context.Context, task *Task) (any, error) {
		var record struct{ N int }
		if err := task.Decode(&record); err != nil {
			return nil, err
		}
		got, ok := ctx.Deadline()
		return fmt.Sprintf("%d %s %d %s %v %v %v",
			record.N, task.Delivery, task.Attempt, task.Traceparent, task.Deadline.Equal(deadline), got.Equal(deadline), ok), nil
	}
	serve(t, h, func(_ *testing.T, c *conn) {
		c.send(`{"jsonrpc":"2.0","id":"x","method":"task/run","params":{"delivery":"r.1","record":{"N":5},"attempt":3,"deadlineUnixMs":4102444800000,"_meta":{"traceparent":"00-a-b-01"}}}`)
		c.want(`{"jsonrpc":"2.0","id":"x","result":{"status":"succeeded","value":"5 r.1 3 00-a-b-01 true true true"}}`)
		c.run(2, `"text"`)
		if r, _ := DecodeRunResult(c.message().Result); r.Err == nil || !strings.HasPrefix(r.Err.Message, "decode the record: ") {
			c.t.Errorf("got %+v", r)
		}
		c.shutdown()
	})
}

func TestServeNotifies(t *testing.T) {
	h := func(_ context.Context, task *Task) (any, error) {
		task.Progress(0.25, "a quarter")
		task.Progress(0.3, "too soon")
		task.Progress(math.NaN(), "")
		time.Sleep(progressEvery)
		task.Progress(-1, "")
		task.Progress(7, "done")
		task.Log(slog.LevelInfo, "hi", "n", 1, slog.Duration("took", time.Second), "bad", math.Inf(1), "err", io.EOF)
		task.Log(slog.LevelError, "bare")
		go func() {
			time.Sleep(time.Second)
			task.Log(slog.LevelInfo, "too late")
			task.Progress(1, "too late")
		}()
		return nil, nil
	}
	serve(t, h, func(_ *testing.T, c *conn) {
		c.run(1, "{}")
		c.want(`{"jsonrpc":"2.0","method":"$/progress","params":{"delivery":"r.1","fraction":0.25,"message":"a quarter"}}`)
		c.want(`{"jsonrpc":"2.0","method":"$/progress","params":{"delivery":"r.1","fraction":0}}`)
		c.want(`{"jsonrpc":"2.0","method":"$/progress","params":{"delivery":"r.1","fraction":1,"message":"done"}}`)
		c.want(`{"jsonrpc":"2.0","method":"log","params":{"level":"info","message":"hi","delivery":"r.1","fields":{"bad":"+Inf","err":"EOF","n":1,"took":1000000000}}}`)
		c.want(`{"jsonrpc":"2.0","method":"log","params":{"level":"error","message":"bare","delivery":"r.1"}}`)
		c.wantResult(1, `{"status":"succeeded"}`)
		time.Sleep(2 * time.Second)
		c.shutdown()
	})
}

// P44: of several goroutines that wait, the first and the last are heard; a
// function that is called twice counts once.
func TestATaskSaysThatItOnlyWaits(t *testing.T) {
	h := func(_ context.Context, task *Task) (any, error) {
		task.Progress(1, "before")
		one := task.Waiting()
		two := task.Waiting()
		one()
		one()
		task.Progress(1, "between")
		two()
		task.Progress(1, "after")
		three := task.Waiting()
		go func() {
			time.Sleep(time.Second)
			three() // it has been answered long since
		}()
		return nil, nil
	}
	serve(t, h, func(_ *testing.T, c *conn) {
		c.run(1, "{}")
		for _, want := range []string{
			`"method":"$/progress","params":{"delivery":"r.1","fraction":1,"message":"before"}`,
			`"method":"$/waiting","params":{"delivery":"r.1"}`,
			`"method":"$/progress","params":{"delivery":"r.1","fraction":1,"message":"between"}`,
			`"method":"$/resumed","params":{"delivery":"r.1"}`,
			`"method":"$/progress","params":{"delivery":"r.1","fraction":1,"message":"after"}`,
			`"method":"$/waiting","params":{"delivery":"r.1"}`,
		} {
			c.want(`{"jsonrpc":"2.0",` + want + `}`)
		}
		c.wantResult(1, `{"status":"succeeded"}`)
		time.Sleep(2 * time.Second)
		c.shutdown()
	})
}

// A Task that a test of a handler makes itself has no sidecar.
func TestTaskWithoutServer(t *testing.T) {
	task := &Task{Record: json.RawMessage(`1`)}
	task.Waiting()()
	task.Progress(1, "")
	task.Log(slog.LevelDebug, "")
	for level, want := range map[slog.Level]string{slog.LevelDebug: "debug", slog.LevelWarn: "warn", slog.LevelWarn + 1: "warn"} {
		if got := levelName(level); got != want {
			t.Errorf("%v: got %s, want %s", level, got, want)
		}
	}
	if Retryable(nil) != nil {
		t.Error("Retryable(nil) is an error")
	}
}
