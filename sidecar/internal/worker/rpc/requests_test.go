package rpc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

func init() { menu["asks"] = askingWorker }

// askingWorker sends, for each task, the lines of the file at its record's path, with $d
// replaced by the delivery. What the record says to do:
//
//	wait   answer the task with all answers, by id, after the last one
//	leave  answer the task at once, and log later answers
//	die    die at once
func askingWorker() {
	type asked struct {
		id      string // of the task/run
		answers map[string]json.RawMessage
		left    int
	}
	var open *asked
	finish := func() {
		value, err := json.Marshal(open.answers)
		if err != nil {
			panic(err)
		}
		fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"status":"succeeded","value":%s}}`+"\n", open.id, value)
		open = nil
	}
	handle := answering(nil)
	eachLine(func(line string) {
		m, err := protocol.DecodeMessage([]byte(line))
		if err != nil {
			panic(err)
		}
		switch {
		case m.IsResponse() && open != nil:
			open.answers[strings.Trim(string(m.ID), `"`)] = json.RawMessage(line)
			if open.left--; open.left == 0 {
				finish()
			}
		case m.IsResponse():
			fmt.Fprintln(os.Stderr, "late:", line)
		case m.Method == protocol.MethodTaskRun:
			var p struct {
				Delivery string
				Record   record
			}
			if err := json.Unmarshal(m.Params, &p); err != nil {
				panic(err)
			}
			text, err := os.ReadFile(p.Record.Path)
			if err != nil {
				panic(err)
			}
			lines := strings.TrimSpace(strings.ReplaceAll(string(text), "$d", p.Delivery))
			fmt.Println(lines)
			open = &asked{string(m.ID), map[string]json.RawMessage{}, strings.Count(lines, `"id"`)}
			switch {
			case p.Record.Do == "leave":
				finish()
			case p.Record.Do == "die":
				os.Exit(3)
			case open.left == 0:
				finish()
			}
		default:
			handle(json.RawMessage(m.ID), m.Method, m.Params)
		}
	})
}

// server is the Requests of these tests.
type server struct {
	ask    func(ctx context.Context, t *task.Task, method string, a *protocol.TaskRequest) ([]byte, error)
	mu     sync.Mutex
	asks   int
	ended  chan string
	inputs func(ctx context.Context, t *task.Task, names []string) ([]protocol.Input, error)
}

func newServer(ask func(ctx context.Context, t *task.Task, method string, a *protocol.TaskRequest) ([]byte, error)) *server {
	return &server{ask: ask, ended: make(chan string, 100)}
}

func (s *server) Serve(ctx context.Context, t *task.Task, method string, a *protocol.TaskRequest) ([]byte, error) {
	s.mu.Lock()
	s.asks++
	s.mu.Unlock()
	return s.ask(ctx, t, method, a)
}

func (s *server) Inputs(ctx context.Context, t *task.Task, names []string) ([]protocol.Input, error) {
	return s.inputs(ctx, t, names)
}

func (s *server) Ended(t *task.Task) { s.ended <- t.Delivery }

// pushAsks pushes a task that sends these lines.
func (b *bundle) pushAsks(do string, lines ...string) task.Task {
	b.t.Helper()
	path := b.t.TempDir() + "/lines"
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		b.t.Fatal(err)
	}
	return b.push(do, path)
}

func request(id, method, params string) string {
	return fmt.Sprintf(`{"jsonrpc":"2.0","id":%q,"method":%q,"params":%s}`, id, method, params)
}

// answers returns the answers in a task's value: the result, or code and message.
func answers(t *testing.T, o task.Outcome) map[string]string {
	t.Helper()
	var all map[string]json.RawMessage
	if err := json.Unmarshal(o.Value, &all); err != nil {
		t.Fatalf("%v: %+v", err, o)
	}
	got := map[string]string{}
	for id, raw := range all {
		m, err := protocol.DecodeMessage(raw)
		if err != nil {
			t.Fatal(err)
		}
		got[id] = string(m.Result)
		if m.Error != nil {
			got[id] = fmt.Sprintf("%d %s", int(m.Error.Code), m.Error.Message)
		}
	}
	return got
}

func TestRequestsAreAnswered(t *testing.T) {
	s := newServer(func(_ context.Context, x *task.Task, method string, a *protocol.TaskRequest) ([]byte, error) {
		switch a.Key {
		case "kind":
			return nil, protocol.Errorf(protocol.CodeInvalidParams, "another kind")
		case "broken":
			return nil, errors.New("out of order")
		case "large":
			return []byte(`{"value":"` + strings.Repeat("x", 2<<20) + `"}`), nil
		}
		return fmt.Appendf(nil, `{"for":%q,"method":%q,"key":%q}`, x.Delivery, method, a.Key), nil
	})
	b := setup(t, "asks", func(c *rpc.Config) { c.Requests = s })
	b.pushAsks("wait",
		request("ok", "channel/get", `{"delivery":"$d","key":"k"}`),
		request("kind", "channel/get", `{"delivery":"$d","key":"kind"}`),
		request("broken", "channel/get", `{"delivery":"$d","key":"broken"}`),
		request("large", "channel/get", `{"delivery":"$d","key":"large"}`),
		request("params", "channel/get", `{"delivery":"$d"}`),
		request("array", "channel/get", `[]`),
		`{"jsonrpc":"2.0","id":"none","method":"channel/get"}`,
		request("stranger", "channel/get", `{"delivery":"run.99","key":"k"}`),
		request("unknown", "channel/clear", `{"delivery":"$d"}`),
		request("unknown array", "channel/clear", `[1]`),
	)
	got := answers(t, b.next())
	for id, want := range map[string]string{
		"ok":            `{"for":"run.1","method":"channel/get","key":"k"}`,
		"kind":          "-32602 another kind",
		"broken":        "-32603 out of order",
		"large":         "-32602 the answer has 20",
		"params":        "-32602 invalid params of channel/get: neither key nor keys",
		"array":         "-32602 invalid params of channel/get: the params are not an object",
		"none":          "-32602 invalid params of channel/get: the params are not an object",
		"stranger":      `-32002 no task runs in this worker under the delivery "run.99"`,
		"unknown":       "-32601 method not found: channel/clear",
		"unknown array": "-32601 method not found: channel/clear",
	} {
		if !strings.HasPrefix(got[id], want) {
			t.Errorf("%s: got %.200s, want %s", id, got[id], want)
		}
	}
	if len(got) != 10 {
		t.Errorf("%d answers", len(got))
	}
	if ended := <-s.ended; ended != "run.1" {
		t.Errorf("ended %s", ended)
	}
}

func TestRequestsAreRefusedWithoutAServer(t *testing.T) {
	b := setup(t, "asks", nil)
	b.pushAsks("wait", request("q", "channel/get", `{"delivery":"$d","key":"k"}`))
	if got := answers(t, b.next())["q"]; got != "-32601 method not found: channel/get" {
		t.Errorf("got %s", got)
	}
}

// TestRequestsForAnotherChildsTask: a worker has access to its own tasks only, not to
// those of other processes.
func TestRequestsForAnotherChildsTask(t *testing.T) {
	held := make(chan struct{})
	s := newServer(func(ctx context.Context, x *task.Task, _ string, _ *protocol.TaskRequest) ([]byte, error) {
		if x.Delivery == "run.1" {
			close(held)
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return []byte(`{}`), nil
	})
	b := setup(t, "asks", func(c *rpc.Config) { c.Requests, c.Slots = s, 2 })
	b.pushAsks("wait", request("q", "channel/lock", `{"delivery":"$d","key":"k"}`))
	<-held
	b.pushAsks("wait", request("q", "channel/get", `{"delivery":"run.1","key":"k"}`))
	if got := answers(t, b.next())["q"]; !strings.HasPrefix(got, "-32002 ") {
		t.Errorf("got %s", got)
	}
}

// TestRequestsDoNotWaitForEachOther: a request that waits delays neither other requests
// nor the worker's stdout.
func TestRequestsDoNotWaitForEachOther(t *testing.T) {
	free := make(chan struct{})
	s := newServer(func(ctx context.Context, _ *task.Task, method string, _ *protocol.TaskRequest) ([]byte, error) {
		if method == protocol.MethodChannelLock {
			select {
			case <-free:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			return []byte(`{"token":"t"}`), nil
		}
		close(free) // now the lock is free
		return []byte(`{"released":true}`), nil
	})
	b := setup(t, "asks", func(c *rpc.Config) { c.Requests = s })
	b.pushAsks("wait",
		request("lock", "channel/lock", `{"delivery":"$d","key":"k"}`),
		request("unlock", "channel/unlock", `{"delivery":"$d","key":"k","token":"t"}`))
	got := answers(t, b.next())
	if got["lock"] != `{"token":"t"}` || got["unlock"] != `{"released":true}` {
		t.Errorf("got %v", got)
	}
}

// TestRequestsEndWithTheDelivery: the end of a delivery ends its requests first, and
// then its locks.
func TestRequestsEndWithTheDelivery(t *testing.T) {
	for _, do := range []string{"leave", "die"} {
		t.Run(do, func(t *testing.T) {
			var serving atomic.Int32
			s := newServer(nil)
			s.ask = func(ctx context.Context, _ *task.Task, _ string, _ *protocol.TaskRequest) ([]byte, error) {
				serving.Add(1)
				defer serving.Add(-1)
				<-ctx.Done()
				return nil, ctx.Err()
			}
			b := setup(t, "asks", func(c *rpc.Config) { c.Requests = s })
			x := b.pushAsks(do, request("q", "channel/lock", `{"delivery":"$d","key":"k"}`))
			if o := b.next(); o.Task.Delivery != x.Delivery {
				t.Errorf("outcome %+v", o)
			}
			if ended := <-s.ended; ended != x.Delivery || serving.Load() != 0 {
				t.Errorf("ended %s, while %d requests are served", ended, serving.Load())
			}
			if do == "leave" {
				wait.Until(t, "an error for the worker", func() bool { return strings.Contains(b.log.String(), "-32002") })
			}
			b.halt()
			if len(s.ended) != 0 {
				t.Errorf("ended once more: %s", <-s.ended)
			}
		})
	}
}

// TestRequestsAreBounded: the unanswered requests of a worker are bounded, and the
// reader never waits.
func TestRequestsAreBounded(t *testing.T) {
	free := make(chan struct{})
	s := newServer(func(context.Context, *task.Task, string, *protocol.TaskRequest) ([]byte, error) {
		<-free
		return []byte(`{}`), nil
	})
	b := setup(t, "asks", func(c *rpc.Config) { c.Requests = s })
	var lines []string
	for i := range 1124 {
		lines = append(lines, request(fmt.Sprint("q", i), "channel/exists", `{"delivery":"$d","key":"k"}`))
	}
	lines = append(lines, `{"jsonrpc":"2.0","method":"log","params":{"level":"info","message":"all are sent"}}`)
	b.pushAsks("wait", lines...)
	wait.Until(t, "the reader to pass all of it", func() bool { return strings.Contains(b.log.String(), "all are sent") })
	close(free)
	refused := 0
	for id, got := range answers(t, b.next()) {
		switch {
		case strings.HasPrefix(got, "-32600 1024 requests are unanswered"):
			refused++
		case got != "{}":
			t.Errorf("%s: %s", id, got)
		}
	}
	if refused != 100 || s.asks != 1024 {
		t.Errorf("%d refused, %d served", refused, s.asks)
	}
}

func TestProgressIsInTheStatus(t *testing.T) {
	free := make(chan struct{})
	s := newServer(func(context.Context, *task.Task, string, *protocol.TaskRequest) ([]byte, error) {
		<-free
		return []byte(`{}`), nil
	})
	b := setup(t, "asks", func(c *rpc.Config) { c.Requests = s })
	said := func() worker.Progress {
		for _, slot := range b.pool.Slots() {
			for _, x := range slot.Tasks {
				return x.Progress
			}
		}
		return worker.Progress{}
	}
	progress := func(params string) string {
		return `{"jsonrpc":"2.0","method":"$/progress","params":` + params + `}`
	}
	b.pushAsks("wait",
		progress(`{"delivery":"$d","fraction":0.25,"message":"a quarter"}`),
		progress(`{"delivery":"run.7","fraction":0.9}`),
		progress(`{"delivery":"$d","fraction":"much"}`),
		progress(`[]`),
		`{"jsonrpc":"2.0","method":"$/progress"}`,
		progress(`{"delivery":"$d","message":"`+strings.Repeat("ä", 200)+`"}`),
		request("q", "channel/exists", `{"delivery":"$d","key":"k"}`))
	wait.Until(t, "the last progress", func() bool { return strings.HasPrefix(said().Message, "ä") })
	if p := said(); p.Fraction != 0.25 || p.Message != strings.Repeat("ä", 128)+"…" || time.Since(p.At) > time.Minute {
		t.Errorf("progress %+v", p)
	}
	close(free)
	b.next()
}
