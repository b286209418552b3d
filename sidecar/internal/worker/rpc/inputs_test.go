package rpc_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/internal/worker/rpc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

func init() {
	menu["wants inputs"] = wantsInputs(`{"task-*":["x","y"],"*":["y"],"other":["z"]}`)
	menu["answers before it is asked"] = func() {
		lied := false // only once: a later false answer may arrive when the task has just been sent
		raw(func(id json.RawMessage, method string, _ json.RawMessage) {
			switch method {
			case protocol.MethodInitialize:
				fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":1,"worker":{"name":"menu","version":"1"},"concurrency":1,"capabilities":{},"inputs":{"*":["x"]}}}`+"\n", id)
			case protocol.MethodPing: // the task with the id 2 waits for its inputs
				if !lied {
					lied = true
					fmt.Println(`{"jsonrpc":"2.0","id":2,"result":{"status":"succeeded","value":"a lie"}}`)
				}
				fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{}}`+"\n", id)
			case protocol.MethodTaskRun:
				fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"status":"succeeded","value":"the truth"}}`+"\n", id)
			case protocol.MethodShutdown:
				os.Exit(0)
			}
		})
	}
	menu["wants what there is"] = wantsInputs(`{"task-*":[]}`)
	menu["wants too many inputs"] = wantsInputs(`{"*":[` + strings.Repeat(`"x",`, protocol.MaxInputNames) + `"x"]}`)
	menu["wants inputs of another shape"] = wantsInputs(`["x"]`)
}

// wantsInputs is a worker that declares inputs and answers each task with its params.
func wantsInputs(inputs string) func() {
	return func() {
		handle := answering(nil)
		raw(func(id json.RawMessage, method string, params json.RawMessage) {
			switch method {
			case protocol.MethodInitialize:
				fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":1,"worker":{"name":"menu","version":"1"},"concurrency":1,"capabilities":{},"inputs":%s}}`+"\n", id, inputs)
			case protocol.MethodTaskRun:
				fmt.Printf(`{"jsonrpc":"2.0","id":%s,"result":{"status":"succeeded","value":%s}}`+"\n", id, params)
			default:
				handle(id, method, params)
			}
		})
	}
}

// ran returns the params that a task has as its value.
func ran(t *testing.T, o task.Outcome) protocol.RunParams {
	t.Helper()
	if o.Conclusion != task.Succeeded {
		t.Fatalf("outcome %+v", o)
	}
	p, err := protocol.DecodeRunParams(o.Value)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestInputsComeWithTheTask(t *testing.T) {
	s := newServer(nil)
	s.inputs = func(_ context.Context, x *task.Task, names []string) ([]protocol.Input, error) {
		if got := fmt.Sprint(x.Delivery, names); got != "run.1[x y]" {
			t.Errorf("asked for %s", got)
		}
		return []protocol.Input{{Name: "x", Text: []byte("[1.0]")}, {Name: "y", Text: []byte("NaN")}}, nil
	}
	b := setup(t, "wants inputs", func(c *rpc.Config) { c.Requests, c.TaskTimeout = s, time.Hour })
	before := time.Now()
	b.push("", "")
	p := ran(t, b.next())
	if got := fmt.Sprintf("%s", p.Inputs); got != "[{x [1.0]} {y NaN}]" {
		t.Errorf("inputs %s", got)
	}
	if p.DeadlineUnixMs < before.Add(time.Hour).UnixMilli()-1 {
		t.Errorf("deadline %d", p.DeadlineUnixMs)
	}
}

// TestInputsOfTheWorkflow: a worker that declares no names gets the inputs of the
// workflow.
func TestInputsOfTheWorkflow(t *testing.T) {
	s := newServer(nil)
	s.inputs = func(_ context.Context, _ *task.Task, names []string) ([]protocol.Input, error) {
		if len(names) != 0 {
			t.Errorf("asked for %v", names)
		}
		return []protocol.Input{{Name: "bound", Text: []byte("1")}}, nil
	}
	b := setup(t, "wants what there is", func(c *rpc.Config) { c.Requests = s })
	b.push("", "")
	if got := fmt.Sprintf("%s", ran(t, b.next()).Inputs); got != "[{bound 1}]" {
		t.Errorf("inputs %s", got)
	}
}

// TestInputsThatNoWorkerDeclared: nothing is read without a Requests, or for tasks that
// match no pattern.
func TestInputsThatNoWorkerDeclared(t *testing.T) {
	b := setup(t, "wants inputs", nil)
	b.push("", "")
	if p := ran(t, b.next()); p.Inputs != nil {
		t.Errorf("inputs %v", p.Inputs)
	}
	s := newServer(nil) // panics if inputs are read
	b = setup(t, "good", func(c *rpc.Config) { c.Requests = s })
	b.push("", "")
	if o := b.next(); o.Conclusion != task.Succeeded {
		t.Errorf("outcome %+v", o)
	}
}

func TestInputsThatCannotBeHad(t *testing.T) {
	for name, c := range map[string]struct {
		inputs []protocol.Input
		err    error
		want   string
	}{
		"refused":  {nil, errors.New("another kind"), "the inputs of this task cannot be read: another kind"},
		"too long": {[]protocol.Input{{Name: "x", Text: []byte(`"` + strings.Repeat("x", 2<<20) + `"`)}}, nil, "more than the 1048576 that are allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(nil)
			s.inputs = func(context.Context, *task.Task, []string) ([]protocol.Input, error) { return c.inputs, c.err }
			b := setup(t, "wants inputs", func(cfg *rpc.Config) { cfg.Requests = s })
			b.push("", "")
			if o := b.next(); o.Conclusion != task.Failed || o.Reason != "inputs" || !strings.Contains(o.Message, c.want) {
				t.Errorf("outcome %+v", o)
			}
			c.inputs, c.err = nil, nil // the child goes on
			b.push("", "")
			if o := b.next(); o.Conclusion != task.Succeeded {
				t.Errorf("outcome %+v", o)
			}
		})
	}
}

// TestInputsThatDoNotCome: a task that waits for its inputs has not started. Whatever
// ends the wait returns the task, and a lost lease does so at once.
func TestInputsThatDoNotCome(t *testing.T) {
	for name, end := range map[string]func(b *bundle){
		"stop":  func(b *bundle) { b.stop() },
		"evict": func(b *bundle) { b.pool.Evict("run") },
		"abort": func(b *bundle) { b.stop(); b.abort() },
	} {
		t.Run(name, func(t *testing.T) {
			waiting := make(chan struct{})
			s := newServer(nil)
			s.inputs = func(ctx context.Context, _ *task.Task, _ []string) ([]protocol.Input, error) {
				close(waiting)
				<-ctx.Done()
				return nil, ctx.Err()
			}
			b := setup(t, "wants inputs", func(c *rpc.Config) { c.Requests, c.TaskTimeout = s, time.Millisecond })
			b.push("", "")
			<-waiting
			time.Sleep(5 * time.Millisecond) // past the deadline, which begins with the task
			for _, slot := range b.pool.Slots() {
				if len(slot.Tasks) != 0 {
					t.Errorf("started: %+v", slot.Tasks)
				}
			}
			end(b)
			if o := b.next(); o.Conclusion != task.Returned || !o.StartedAt.IsZero() {
				t.Errorf("outcome %+v", o)
			}
		})
	}
}

// TestInputsAndAnAnswerTooEarly: an answer to a task that was not sent yet is
// unexpected.
func TestInputsAndAnAnswerTooEarly(t *testing.T) {
	free := make(chan struct{})
	s := newServer(nil)
	s.inputs = func(context.Context, *task.Task, []string) ([]protocol.Input, error) {
		<-free
		return nil, nil
	}
	b := setup(t, "answers before it is asked", func(c *rpc.Config) { c.Requests, c.PingInterval = s, 10*time.Millisecond })
	b.push("", "")
	wait.Until(t, "the stray answer", func() bool { return strings.Contains(b.log.String(), "unexpected response id") })
	close(free)
	if o := b.next(); string(o.Value) != `"the truth"` {
		t.Errorf("outcome %+v: %s", o, o.Value)
	}
}

func TestInputsOfABadWorker(t *testing.T) {
	for role, want := range map[string]string{
		"wants too many inputs":         "declares 1001 inputs for 1 patterns",
		"wants inputs of another shape": "its answer to initialize cannot be read",
	} {
		b := setup(t, role, nil)
		err := <-b.ended
		b.ended <- err
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", role, err)
		}
	}
}
