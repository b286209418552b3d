package requests

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/config"
	"github.com/graflow/graflow-sidecar/sidecar/internal/observe/health"
	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/internal/task"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
)

// asker is a [Server] on a Redis, with tasks in flight.
type asker struct {
	*Server
	t      *testing.T
	ctx    context.Context
	c      *goredis.Client
	st     *redis.Store
	prefix string
	run    string
}

func newAsker(t *testing.T, server *redistest.Server) *asker {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	client, err := redis.NewClient(redis.ClientOptions{
		Host: server.Host, Port: server.Port, PoolSize: Lanes,
		DialTimeout: time.Second, ReadTimeout: time.Second, WriteTimeout: time.Second,
	})
	if err != nil {
		t.Fatal(err)
	}
	// Not the Prefix of redistest, whose cleanup needs the server: some tests here stop
	// it.
	prefix := "asks-" + redis.NewRunID("")[7:19]
	st, err := redis.New(client, redis.Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	mon := health.New()
	mon.Ping, mon.Reached, mon.Name = st.Ping, redis.Answered, redis.ClassName
	mon.Interval, mon.Timeout, mon.Log = time.Minute, time.Second, slog.New(slog.DiscardHandler)
	mon.Pause = redis.RetryPause(config.Default().Redis)
	watching, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { _ = mon.Run(watching) })
	t.Cleanup(func() { stop(); wg.Wait(); st.Close() })
	a := &asker{New(mon, mon.Log, st, 1<<20), t, ctx, server.Client(), st, prefix, redis.NewRunID("w")}
	if err := st.Register(ctx, a.run); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, pattern := range []string{prefix + ":*", "graflow:channel:" + prefix + "*"} {
			if keys := a.c.Keys(context.WithoutCancel(ctx), pattern).Val(); len(keys) > 0 {
				a.c.Del(context.WithoutCancel(ctx), keys...)
			}
		}
	})
	return a
}

// task claims a record of a session.
func (a *asker) task(session string) *task.Task {
	a.t.Helper()
	record := fmt.Sprintf(`{"task_id":"t","session_id":%q,"graph_hash":"h","trace_id":"x","created_at":1.5}`, a.prefix+session)
	if err := a.c.RPush(a.ctx, a.prefix+":queue", record).Err(); err != nil {
		a.t.Fatal(err)
	}
	got, err := a.st.Claim(a.ctx, a.run, redis.NewRunID("nonce"), 1)
	if err != nil || len(got) != 1 {
		a.t.Fatal(got, err)
	}
	info, err := task.Decode(got[0].Record)
	if err != nil {
		a.t.Fatal(err)
	}
	return &task.Task{Delivery: got[0].Delivery, Record: got[0].Record, Info: info}
}

// ask makes a request like a worker, and returns the result or the code and message of
// the error.
func (a *asker) ask(x *task.Task, method, params string) string {
	a.t.Helper()
	return a.askWithin(a.ctx, x, method, params)
}

func (a *asker) askWithin(ctx context.Context, x *task.Task, method, params string) string {
	q, err := protocol.DecodeTaskRequest(method, []byte(strings.ReplaceAll(params, "$d", x.Delivery)))
	if err != nil {
		return "decode: " + err.Error()
	}
	result, err := a.Serve(ctx, x, method, &q)
	if problem, ok := errors.AsType[*protocol.Error](err); ok {
		return fmt.Sprintf("%d %s", int(problem.Code), problem.Message)
	}
	if err != nil {
		return "error: " + err.Error()
	}
	if !json.Valid(result) {
		a.t.Errorf("%s %s: not JSON: %s", method, params, result)
	}
	return string(result)
}

// TestAsk makes every request that a worker may make, in one session.
func TestAsk(t *testing.T) {
	a := newAsker(t, redistest.New(t))
	x := a.task("s")
	raw := func(key string) string { return "graflow:channel:" + x.Info.SessionID + ":" + key }
	for key, text := range map[string]string{"nan": "[NaN]", "big": "9007199254740993", "empty": "", "bytes": "\xff", "word": "word"} {
		if err := a.c.Set(a.ctx, raw(key), text, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ method, params, want string }{
		{"channel/get", `{"delivery":"$d","key":"k"}`, `{"found":false}`},
		{"channel/set", `{"delivery":"$d","key":"k","value":{"a": [1.0, 1]}}`, `{}`},
		{"channel/get", `{"delivery":"$d","key":"k"}`, `{"found":true,"value":{"a": [1.0, 1]}}`},
		{"channel/set", `{"delivery":"$d","key":"inf","valueText":"-Infinity","ttlMs":60000}`, `{}`},
		{"channel/get", `{"delivery":"$d","keys":["inf","nan","big","empty","word","gone"]}`, `{"values":[` +
			`{"found":true,"valueText":"-Infinity"},{"found":true,"valueText":"[NaN]"},{"found":true,"valueText":"9007199254740993"},` +
			`{"found":false},{"found":true,"valueText":"word"},{"found":false}]}`},
		{"channel/get", `{"delivery":"$d","keys":[]}`, `{"values":[]}`},
		{"channel/get", `{"delivery":"$d","key":"bytes"}`, `-32602 not UTF-8: "bytes"`},
		{"channel/exists", `{"delivery":"$d","key":"k"}`, `{"exists":true}`},
		{"channel/delete", `{"delivery":"$d","key":"k"}`, `{"deleted":true}`},
		{"channel/delete", `{"delivery":"$d","key":"k"}`, `{"deleted":false}`},
		{"channel/exists", `{"delivery":"$d","key":"k"}`, `{"exists":false}`},
		{"channel/append", `{"delivery":"$d","key":"l","value":1}`, `{"length":1}`},
		{"channel/prepend", `{"delivery":"$d","key":"l","value":0,"ttlMs":60000}`, `{"length":2}`},
		{"channel/get", `{"delivery":"$d","key":"l"}`, `-32602 the key holds another kind of value: "l"`},
		{"channel/get", `{"delivery":"$d","keys":["k","l"]}`, `-32602 the key holds another kind of value: "l"`},
		{"channel/append", `{"delivery":"$d","key":"nan","value":1}`, `-32602 the key holds another kind of value: "nan"`},
		{"channel/add", `{"delivery":"$d","key":"n"}`, `{"value":1}`},
		{"channel/add", `{"delivery":"$d","key":"n","amount":0.5}`, `{"value":1.5}`},
		{"channel/add", `{"delivery":"$d","key":"big","amount":2}`, `{"valueText":"9007199254740995"}`},
		{"channel/add", `{"delivery":"$d","key":"word"}`, `-32602 not a number that can be added: "word"`},
		{"channel/unlock", `{"delivery":"$d","key":"n","token":"t"}`, `{"released":false}`},
		{"channel/keys", `{"delivery":"$d"}`, `{"keys":["big","bytes","empty","inf","l","n","nan","word"]}`},
	} {
		if got := a.ask(x, c.method, c.params); got != c.want {
			t.Errorf("%s %s:\n got %s\nwant %s", c.method, c.params, got, c.want)
		}
	}
	if ttl := a.c.TTL(a.ctx, raw("inf")).Val(); ttl <= 0 || ttl > time.Minute {
		t.Errorf("ttl %v", ttl)
	}
	y := a.task("other")
	if got := a.ask(y, "channel/keys", `{"delivery":"$d"}`); got != `{"keys":[]}` {
		t.Errorf("keys of another session: %s", got)
	}
}

func TestRequestTooMuch(t *testing.T) {
	a := newAsker(t, redistest.New(t))
	x := a.task("s")
	a.max = 1000
	if got := a.ask(x, "channel/set", `{"delivery":"$d","key":"k","value":"`+strings.Repeat("x", 600)+`"}`); got != `{}` {
		t.Fatal(got)
	}
	if got := a.ask(x, "channel/get", `{"delivery":"$d","keys":["k","k"]}`); !strings.HasPrefix(got, "-32602 the answer has more than the 1000 bytes") {
		t.Error(got)
	}
	a.max = 0
	if got := a.ask(x, "channel/keys", `{"delivery":"$d"}`); got != "-32602 too much for one answer" {
		t.Error(got)
	}
}

func TestRequestWithoutASession(t *testing.T) {
	a := newAsker(t, redistest.New(t))
	if got := a.ask(&task.Task{Delivery: "r.1"}, "channel/get", `{"delivery":"$d","key":"k"}`); !strings.HasPrefix(got, "-32602 the record of this task has no session_id") {
		t.Error(got)
	}
}

// TestRequestInputs: inputs are resolved like keyword arguments in Graflow.
func TestRequestInputs(t *testing.T) {
	a := newAsker(t, redistest.New(t))
	x := a.task("s")
	prefix := "graflow:channel:" + x.Info.SessionID + ":"
	for key, text := range map[string]string{
		"both.__result__": "1.0", "both": "2", "plain": "NaN", "nothing.__result__": "null", "nothing": "3", "empty": "",
	} {
		if err := a.c.Set(a.ctx, prefix+key, text, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := a.Inputs(a.ctx, x, []string{"both", "empty", "gone", "nothing", "plain"})
	if text := fmt.Sprintf("%s %v", got, err); text != "[{both 1.0} {empty } {nothing null} {plain NaN}] <nil>" {
		t.Error(text)
	}
	if got, err := a.Inputs(a.ctx, &task.Task{}, []string{"x"}); len(got) != 0 || err != nil {
		t.Errorf("without a session: %s, %v", got, err)
	}
	if err := a.c.RPush(a.ctx, prefix+"list.__result__", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if err := a.c.Set(a.ctx, prefix+"bytes", "\xff", 0).Err(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"list":  `the key holds another kind of value: "list.__result__" (-32602)`,
		"bytes": `not UTF-8: "bytes" (-32602)`,
	} {
		if _, err := a.Inputs(a.ctx, x, []string{name}); err == nil || err.Error() != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRequestInputsOfTheWorkflow: the inputs that a workflow has bound and defined for
// a task are added to those that its worker declares, and take precedence.
func TestRequestInputsOfTheWorkflow(t *testing.T) {
	a := newAsker(t, redistest.New(t))
	x := a.task("s")
	x.Info.TaskID = "etl.clean"
	prefix := "graflow:channel:" + x.Info.SessionID + ":"
	set := func(values map[string]string) {
		t.Helper()
		for key, text := range values {
			if err := a.c.Set(a.ctx, prefix+key, text, 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	set(map[string]string{"fetch.__result__": "[1]", "plain": "2", "rows": "3", "other": "4", "limit.__result__": "5"})
	for _, c := range []struct {
		bound, inputs string
		names         []string
		want          string
	}{
		{"{}", "{}", nil, "[] <nil>"},
		{`{"limit": NaN, "deep": {"a": [1.0]}}`, "{}", []string{"limit", "plain"}, `[{limit NaN} {deep {"a": [1.0]}} {plain 2}] <nil>`},
		{"{}", `{"fetch": "fetch"}`, nil, "[{fetch [1]}] <nil>"},
		{"{}", `{"fetch": "fetch"}`, []string{"fetch"}, "[{fetch [1]}] <nil>"},
		{"{}", `{"rows": "fetch", "gone": "nowhere"}`, []string{"rows", "other"}, "[{other 4} {rows [1]}] <nil>"},
		{`{"rows": 0}`, `{"rows": "fetch"}`, []string{"rows"}, "[{rows 0}] <nil>"},
		{"7", "{}", nil, "[] etl.clean.__bound__ holds no object of values (not an object): \"7\""},
		{"{}", `{"rows": 1}`, nil, "[] etl.clean.__inputs__: the source of the input \"rows\" is no name: \"1\""},
		{"{}", `{"rows": "list"}`, nil, `[] the key holds another kind of value: "list" (-32602)`},
		{"\xff", "{}", nil, `[] not UTF-8: "etl.clean.__bound__" (-32602)`},
	} {
		a.c.Del(a.ctx, prefix+"list")
		a.c.RPush(a.ctx, prefix+"list", "1")
		set(map[string]string{"etl.clean.__bound__": c.bound, "etl.clean.__inputs__": c.inputs})
		got, err := a.Inputs(a.ctx, x, c.names)
		if line := fmt.Sprintf("%s %v", got, err); line != c.want {
			t.Errorf("%s, %s, %v:\n got %s\nwant %s", c.bound, c.inputs, c.names, line, c.want)
		}
	}
	x.Info.TaskID = "etl.load" // a task without inputs in any workflow
	if got, err := a.Inputs(a.ctx, x, nil); len(got) != 0 || err != nil {
		t.Errorf("nothing: %s, %v", got, err)
	}
}

// TestRequestAfterTheDelivery: a request of an ended delivery gets an error, and its
// locks are released anyway.
func TestRequestAfterTheDelivery(t *testing.T) {
	a := newAsker(t, redistest.New(t))
	x := a.task("s")
	if got := a.ask(x, "channel/lock", `{"delivery":"$d","key":"k"}`); !strings.HasPrefix(got, `{"token":"`) {
		t.Fatal(got)
	}
	if _, err := a.st.Release(a.ctx, a.run, []redis.Release{{Delivery: x.Delivery, Seq: 1}}); err != nil {
		t.Fatal(err)
	}
	for method, params := range map[string]string{
		"channel/set":  `{"delivery":"$d","key":"k","value":1}`,
		"channel/lock": `{"delivery":"$d","key":"other"}`,
		"task/enqueue": `{"delivery":"$d","record":{"task_id":"t"}}`,
	} {
		if got := a.ask(x, method, params); got != "-32002 the delivery has ended" && !strings.HasPrefix(got, "-32002 the delivery has ended: ") {
			t.Errorf("%s: %s", method, got)
		}
	}
	a.Ended(x)
	if n := a.c.Exists(a.ctx, "graflow:channel:"+x.Info.SessionID+":lock:k").Val(); n != 0 {
		t.Error("the lock is still taken")
	}
}

// TestRequestLocks: one task has a lock at a time. A waiting request gets the lock when
// it is free, or the answer that it stayed taken.
func TestRequestLocks(t *testing.T) {
	a := newAsker(t, redistest.New(t))
	x, y := a.task("s"), a.task("s")
	token := func(answer string) string {
		var r struct{ Token *string }
		if err := json.Unmarshal([]byte(answer), &r); err != nil {
			t.Fatal(answer)
		}
		if r.Token == nil {
			return ""
		}
		return *r.Token
	}
	first := token(a.ask(x, "channel/lock", `{"delivery":"$d","key":"k","timeoutMs":60000}`))
	if first == "" {
		t.Fatal("no lock")
	}
	if second := token(a.ask(y, "channel/lock", `{"delivery":"$d","key":"k","timeoutMs":150}`)); second != "" {
		t.Errorf("had twice: %s", second)
	}
	got := make(chan string)
	go func() { got <- a.ask(y, "channel/lock", `{"delivery":"$d","key":"k","timeoutMs":60000}`) }()
	if answer := a.ask(x, "channel/unlock", `{"delivery":"$d","key":"k","token":"`+first+`"}`); answer != `{"released":true}` {
		t.Error(answer)
	}
	second := token(<-got)
	if second == "" || second == first {
		t.Errorf("tokens %q, %q", first, second)
	}
	a.Ended(x) // it has no locks any more
	if owner := a.c.Get(a.ctx, "graflow:channel:"+x.Info.SessionID+":lock:k").Val(); owner != second {
		t.Errorf("the lock is %q's, want %q's", owner, second)
	}
	a.Ended(y)
	if n := a.c.Exists(a.ctx, "graflow:channel:"+x.Info.SessionID+":lock:k").Val(); n != 0 {
		t.Error("the lock is still taken")
	}
	if len(a.locks.byDelivery) != 0 {
		t.Errorf("remembered: %v", a.locks.byDelivery)
	}
}

// TestRequestManyWaitForALock: many waits for a lock delay no other request, and end
// with their deliveries.
func TestRequestManyWaitForALock(t *testing.T) {
	a := newAsker(t, redistest.New(t))
	x, y := a.task("s"), a.task("s")
	if got := a.ask(x, "channel/lock", `{"delivery":"$d","key":"k","timeoutMs":60000}`); !strings.HasPrefix(got, `{"token":"`) {
		t.Fatal(got)
	}
	ctx, end := context.WithCancel(a.ctx)
	var wg sync.WaitGroup
	for range 4 * Lanes {
		wg.Go(func() {
			if got := a.askWithin(ctx, y, "channel/lock", `{"delivery":"$d","key":"k","timeoutMs":60000}`); got != "error: context canceled" {
				t.Errorf("the waiting request got %s", got)
			}
		})
	}
	for range 10 {
		if got := a.ask(x, "channel/add", `{"delivery":"$d","key":"n"}`); !strings.HasPrefix(got, `{"value":`) {
			t.Error(got)
		}
	}
	end()
	wg.Wait()
	a.Ended(y)
	a.Ended(x)
}

func TestRequestEnqueue(t *testing.T) {
	a := newAsker(t, redistest.New(t))
	x := a.task("s")
	session := x.Info.SessionID
	before := float64(time.Now().UnixMicro()) / 1e6
	for _, c := range []struct{ record, want string }{
		{`{"task_id":"a"}`, `{"created_at":NOW,"graph_hash":"h","session_id":"` + session + `","task_id":"a","trace_id":"x"}`},
		{`{"task_id":"b<&>","session_id":null,"group_id":"g","n":1.0,"big":123456789012345678901}`, `{"big":123456789012345678901,"created_at":NOW,"graph_hash":"h","group_id":"g","n":1.0,"session_id":"` + session + `","task_id":"b<&>","trace_id":"x"}`},
		{`{"task_id":"c","session_id":"mine","graph_hash":"","trace_id":"y","created_at":7.25}`, `{"created_at":7.25,"graph_hash":"","session_id":"mine","task_id":"c","trace_id":"y"}`},
	} {
		if got := a.ask(x, "task/enqueue", `{"delivery":"$d","record":`+c.record+`}`); got != `{}` {
			t.Errorf("%s: %s", c.record, got)
		}
		text := a.c.RPop(a.ctx, a.prefix+":queue").Val()
		var r struct {
			CreatedAt json.Number `json:"created_at"`
		}
		if err := json.Unmarshal([]byte(text), &r); err != nil {
			t.Fatal(text, err)
		}
		if at, err := r.CreatedAt.Float64(); strings.Contains(c.want, "NOW") && (err != nil || at < before-1 || at > before+60) {
			t.Errorf("created at %v, now %f", r.CreatedAt, before)
		}
		if want := strings.ReplaceAll(c.want, "NOW", r.CreatedAt.String()); text != want {
			t.Errorf("in the queue\n     %s\nwant %s", text, want)
		}
	}
	for _, record := range []string{`{}`, `{"task_id":""}`, `{"task_id":7}`, `{"task_id":"t","created_at":"now"}`} {
		if got := a.ask(x, "task/enqueue", `{"delivery":"$d","record":`+record+`}`); !strings.HasPrefix(got, "-32602 the record is not one: ") {
			t.Errorf("%s: %s", record, got)
		}
	}
}

// TestRequestWhileRedisIsAway: a request waits and is then made once. It ends with its
// delivery.
func TestRequestWhileRedisIsAway(t *testing.T) {
	server := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	a := newAsker(t, &server.Server)
	x := a.task("s")
	if got := a.ask(x, "channel/add", `{"delivery":"$d","key":"n"}`); got != `{"value":1}` {
		t.Fatal(got)
	}
	server.Stop()
	got := make(chan string)
	for range 5 {
		go func() { got <- a.ask(x, "channel/add", `{"delivery":"$d","key":"n"}`) }()
	}
	ctx, end := context.WithCancel(a.ctx)
	gone := make(chan string)
	go func() { gone <- a.askWithin(ctx, x, "channel/get", `{"delivery":"$d","key":"n"}`) }()
	for len(a.lanes) > Lanes-6 || !a.mon.Lost() {
		time.Sleep(time.Millisecond)
	}
	end()
	if answer := <-gone; answer != "error: context canceled" {
		t.Errorf("the request of a delivery that ended: %s", answer)
	}
	server.Restart()
	sums := map[string]bool{}
	for range 5 {
		sums[<-got] = true
	}
	if len(sums) != 5 || !sums[`{"value":6}`] {
		t.Errorf("sums %v", sums)
	}
}

// TestRequestWithoutMemory: while the memory of Redis is full, requests that need
// memory wait.
func TestRequestWithoutMemory(t *testing.T) {
	server := redistest.Start(t)
	a := newAsker(t, &server.Server)
	x := a.task("s")
	if err := a.c.ConfigSet(a.ctx, "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	got := make(chan string)
	go func() { got <- a.ask(x, "channel/set", `{"delivery":"$d","key":"k","value":1}`) }()
	for a.saidAt().IsZero() {
		time.Sleep(time.Millisecond)
	}
	if a.mon.Lost() {
		t.Error("a Redis that is up counts as lost")
	}
	if err := a.c.ConfigSet(a.ctx, "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	if answer := <-got; answer != "{}" {
		t.Error(answer)
	}
}

func (a *Server) saidAt() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.loggedAt
}

// TestRequestWithoutPermission: a missing permission is an error at once.
func TestRequestWithoutPermission(t *testing.T) {
	server := redistest.Start(t)
	a := newAsker(t, &server.Server)
	x := a.task("s")
	if err := a.c.Do(a.ctx, "ACL", "SETUSER", "default", "resetkeys", "~"+a.prefix+"*").Err(); err != nil {
		t.Fatal(err)
	}
	for method, params := range map[string]string{
		"channel/get": `{"delivery":"$d","key":"k"}`,
		"channel/set": `{"delivery":"$d","key":"k","value":1}`,
	} {
		if got := a.ask(x, method, params); !strings.HasPrefix(got, "error: redis refuses the request: ") {
			t.Errorf("%s: %s", method, got)
		}
	}
	a.c.Do(a.ctx, "ACL", "SETUSER", "default", "allkeys")
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, redistest.LeakOptions()...) }
