package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
)

func (b *bench) queue() []string {
	b.t.Helper()
	list, err := b.rdb.LRange(b.ctx, b.prefix+":queue", 0, -1).Result()
	b.must(err)
	return list
}

// Flags make what Graflow's from_json takes: exactly its members, in its order.
func TestEnqueueFromFlags(t *testing.T) {
	b := newBench(t)
	has(t, b.out("enqueue", "--task", `t"1`, "--session", "s", "--graph-hash", "h"), "enqueued 1, the queue has 1")
	got := b.queue()[0]
	info, err := task.Decode([]byte(got))
	b.must(err)
	want := fmt.Sprintf(`{"task_id": "t\"1", "session_id": "s", "graph_hash": "h", "trace_id": "s", "created_at": %s, "group_id": null, "parent_span_id": null}`, info.CreatedAt)
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	b.out("enqueue", "--task", "u", "--timeout", "1500ms", "--set", `params={"a":[1]}`, "--set", "text=not JSON")
	got = b.queue()[1]
	has(t, got, `"timeout": 1.5`, `"params": {"a":[1]}`, `"text": "not JSON"`)
	b.fails(64, "needs --task", "enqueue", "--session", "s")
	b.fails(64, "name=value", "enqueue", "--task", "t", "--set", "x")
	b.fails(64, "flag for this", "enqueue", "--task", "t", "--set", "task_id=2")
	b.fails(64, "negative", "enqueue", "--task", "t", "--timeout", "-1s")
	b.fails(64, "no record", "enqueue")
}

func TestEnqueueFromStdin(t *testing.T) {
	b := newBench(t)
	const exact = `{"task_id":"a" , "created_at":1.50,"x":1e400}`
	out, _, err := b.run("\uFEFF"+exact+"\n\n {\"task_id\":\"b\"} \n", "enqueue", "-o", "json")
	b.must(err)
	has(t, out, `"depth": 2`)
	q := b.queue()
	if q[0] != exact {
		t.Errorf("not byte for byte: %s", q[0])
	}
	if info, err := task.Decode([]byte(q[1])); err != nil || info.CreatedAt == "" || info.TaskID != "b" {
		t.Errorf("%s: %v", q[1], err)
	}
	for in, says := range map[string]string{`{"task_id":1}`: "line 1", "{\"task_id\":\"a\"}\nx": "line 2", "{\"task_id\":\"a\xff\"}": "UTF-8"} {
		if _, _, err := b.run(in, "enqueue"); status(err) != 64 || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v", in, err)
		}
	}
	if n := len(b.queue()); n != 2 {
		t.Errorf("a wrong line leaves %d records", n)
	}
}

// work plays a sidecar: it answers n tasks, those called bad with a failure.
func (b *bench) work(ctx context.Context, n int) error {
	run := redis.NewRunID("w")
	if err := b.st.Register(ctx, run); err != nil {
		return err
	}
	for i := 0; n > 0; i++ {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		claimed, err := b.st.Claim(ctx, run, fmt.Sprint(i), n)
		if err != nil {
			return err
		}
		for _, c := range claimed {
			info, err := task.Decode(c.Record)
			if err != nil {
				return err
			}
			r := redis.Report{
				Delivery: c.Delivery, TaskID: info.TaskID, GroupID: info.GroupID, CreatedAt: info.CreatedAt, SessionID: info.SessionID,
				Success: !strings.HasPrefix(info.TaskID, "bad"), ErrorMessage: "no luck",
			}
			if _, err := b.st.Report(ctx, run, []redis.Report{r}); err != nil {
				return err
			}
			n--
		}
		time.Sleep(time.Millisecond)
	}
	return b.st.Leave(ctx, run)
}

// working runs work beside the test.
func (b *bench) working(n int) {
	ended := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	go func() { ended <- b.work(ctx, n) }()
	b.t.Cleanup(func() {
		defer cancel()
		if err := <-ended; err != nil {
			b.t.Errorf("the sidecar: %v", err)
		}
	})
}

func (b *bench) keys() []string {
	b.t.Helper()
	keys, err := b.rdb.Keys(context.Background(), b.prefix+"*enqueue*").Result()
	b.must(err)
	return keys
}

func TestEnqueueAndWait(t *testing.T) {
	b := newBench(t)
	b.working(3)
	session := b.prefix
	b.must(b.rdb.Set(b.ctx, "graflow:channel:"+session+":a.__result__", `{"n":1}`, time.Minute).Err())
	b.must(b.rdb.Set(b.ctx, b.prefix+":sidecar:result:c", `{"n":2}`, time.Minute).Err()) // without a session
	in := fmt.Sprintf("{\"task_id\":\"a\",\"session_id\":%q}\n{\"task_id\":\"bad\"}\n{\"task_id\":\"c\"}\n", session)
	out, _, err := b.run(in, "enqueue", "--wait", "-o", "json")
	if status(err) != 1 {
		t.Errorf("status %d: %v", status(err), err)
	}
	var list []outcome
	b.must(json.Unmarshal([]byte(out), &list))
	var got []string
	for _, o := range list {
		got = append(got, fmt.Sprint(o.TaskID, " ", o.Outcome, " ", o.Error, " ", string(bytes.Join(bytes.Fields(o.Result), nil))))
	}
	if fmt.Sprint(got) != `[a success  {"n":1} bad failure no luck  c success  {"n":2}]` {
		t.Error(got)
	}
	if keys := b.keys(); len(keys) > 0 {
		t.Errorf("left: %v", keys)
	}
	if _, _, err := b.run("{\"task_id\":\"a\"}\n{\"task_id\":\"a\"}\n", "enqueue", "--wait"); status(err) != 64 {
		t.Errorf("twice the same task: %v", err)
	}
}

func TestEnqueueAndWaitInAGroup(t *testing.T) {
	b := newBench(t)
	b.fails(1, "no open barrier", "enqueue", "--task", "a", "--group", "g", "--wait")
	g, err := b.st.OpenGroup(b.ctx, "g", 2)
	b.must(err)
	defer func() { b.must(g.Close(context.Background())) }()
	b.working(1)
	has(t, b.out("enqueue", "--task", "a", "--group", "g", "--wait"), "a", "success")
	if n, err := g.Reached(b.ctx); err != nil || n != 1 {
		t.Errorf("the barrier is at %d, %v", n, err)
	}
}

// Time that is up, and Ctrl-C, leave no keys behind.
func TestEnqueueGivesUp(t *testing.T) {
	b := newBench(t)
	out, _, err := b.run("", "enqueue", "--task", "a", "--wait", "--wait-timeout", "1s") // time to push, on a busy machine, too
	if status(err) != 75 {
		t.Errorf("status %d: %v", status(err), err)
	}
	has(t, out, "unknown")
	if keys := b.keys(); len(keys) > 0 {
		t.Errorf("left: %v", keys)
	}
	ctx, cancel := context.WithCancel(t.Context())
	whole := b.ctx
	b.ctx = ctx
	before := len(b.queue()) // the first may have had no time to push its record
	pressed := make(chan struct{})
	go func() { // Ctrl-C, when the record is there
		defer close(pressed)
		defer cancel()
		for n := int64(0); n <= int64(before) && whole.Err() == nil; time.Sleep(time.Millisecond) {
			n = b.rdb.LLen(whole, b.prefix+":queue").Val()
		}
	}()
	_, _, err = b.run("", "enqueue", "--task", "b", "--wait")
	<-pressed
	b.ctx = whole
	if status(err) != 130 {
		t.Errorf("status %d: %v", status(err), err)
	}
	if keys := b.keys(); len(keys) > 0 {
		t.Errorf("left: %v", keys)
	}
}

// TestWith: a member is there once, and nothing else of the record changes.
func TestWith(t *testing.T) {
	for _, c := range []struct{ object, want string }{
		{`{}`, `{"group_id":"g"}`},
		{`{ }`, `{"group_id":"g"}`},
		{`{"task_id":"t"}`, `{"task_id":"t","group_id":"g"}`},
		{"{\"task_id\":\"t\" }\n", `{"task_id":"t","group_id":"g"}`},
		{`{"group_id": null, "task_id": "t"}`, `{"group_id": "g", "task_id": "t"}`},
		{`{"params":{"group_id":null},"group_id":null}`, `{"params":{"group_id":null},"group_id":"g"}`},
		{`{"params":{"x":1},"group_id":null,"n":[null]}`, `{"params":{"x":1},"group_id":"g","n":[null]}`},
		{`{"group_id":"","x":1e5}`, `{"group_id":"g","x":1e5}`},
		{`{"group_i\u0064":null}`, `{"group_i\u0064":"g"}`},
		{`{"x":"\"group_id\": null"}`, `{"x":"\"group_id\": null","group_id":"g"}`},
	} {
		given := []byte(c.object)
		if got := with(given, "group_id", []byte(`"g"`)); string(got) != c.want || string(given) != c.object {
			t.Errorf("%s: %s, want %s", c.object, got, c.want)
		}
	}
}
