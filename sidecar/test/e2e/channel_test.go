//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/protocol"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/graflow"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

func init() { roles["channel"] = channelRole }

// channelRole does with its task's channel what its record says.
func channelRole(ctx context.Context, t *protocol.Task) (any, error) {
	var record struct {
		TaskID string `json:"task_id"`
		Params struct {
			Count, Times int
			Prefix, Key  string
			Texts        []string
			Seed         uint64
		}
	}
	if err := t.Decode(&record); err != nil {
		return nil, err
	}
	p, ch := record.Params, t.Channel()
	switch record.TaskID {
	case "copy":
		return nil, copyValues(ctx, ch, p.Count, p.Prefix)
	case "count":
		for range p.Times {
			if err := countUp(ctx, ch, p.Key); err != nil {
				return nil, err
			}
		}
		return "counted", nil
	case "generate":
		return nil, generate(ctx, ch, p.Count, p.Seed)
	case "next":
		return record.TaskID, t.Enqueue(ctx, map[string]any{"task_id": "last"})
	case "last":
		var next string
		found, err := await(ctx, ch, protocol.ResultKey("next"), &next)
		return []any{found, next, string(t.Record)}, err
	case "hold":
		l, err := ch.Lock(ctx, p.Key, time.Minute)
		return l != nil, err // and never gives it back
	default:
		return nil, fmt.Errorf("no such task: %s", record.TaskID)
	}
}

// await reads a key when it is there. What a task has added to the queue may run
// before that task's own result is reported.
func await(ctx context.Context, ch protocol.Channel, key string, v any) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		found, err := ch.Get(ctx, key, v)
		if found || err != nil {
			return found, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false, nil
		}
	}
}

func copyValues(ctx context.Context, ch protocol.Channel, n int, prefix string) error {
	var keys []string
	for i := range n {
		keys = append(keys, fmt.Sprint("py_", i))
	}
	values, err := ch.GetAll(ctx, keys...)
	if err != nil {
		return err
	}
	for i, v := range values {
		if !v.Found {
			return fmt.Errorf("%s is not there", keys[i])
		}
		if err := ch.Set(ctx, fmt.Sprint(prefix, "_", i), v.Text()); err != nil {
			return err
		}
	}
	return nil
}

func countUp(ctx context.Context, ch protocol.Channel, key string) error {
	l, err := ch.Lock(ctx, key, 30*time.Second)
	if err != nil || l == nil {
		return errors.Join(err, errors.New("no lock within 30 s"))
	}
	var n int
	if _, err := ch.Get(ctx, key, &n); err != nil {
		return err
	}
	if err := errors.Join(ch.Set(ctx, "thinking", n), ch.Set(ctx, key, n+1)); err != nil {
		return err
	}
	_, err = l.Unlock(ctx)
	return err
}

// generate sets gen_i to values as encoding/json writes them.
func generate(ctx context.Context, ch protocol.Channel, n int, seed uint64) error {
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range n {
		if err := ch.Set(ctx, fmt.Sprint("gen_", i), generated(r, 0)); err != nil {
			return err
		}
	}
	if _, err := ch.Append(ctx, "list", "from Go", 0); err != nil {
		return err
	}
	_, err := ch.Add(ctx, "sum", 41)
	return err
}

func generated(r *rand.Rand, depth int) any {
	scalars := []any{
		nil, true, 0, 1, 1.0, -0.5, 1e21, 1e-7, math.MaxFloat64, math.SmallestNonzeroFloat64, uint64(math.MaxUint64), int64(math.MinInt64),
		"", "ä\u2028<&>\x00", "😀", "\xff", strings.Repeat("x", 3000), json.RawMessage("1.0"), json.RawMessage("NaN"),
		json.RawMessage("123456789012345678901234567890"), json.RawMessage(`"\ud800"`), json.RawMessage("[ 1 ,\n2 ]"), math.Inf(-1),
	}
	switch k := r.IntN(10); {
	case depth < 4 && k < 2:
		list := []any{}
		for range r.IntN(4) {
			list = append(list, strict(generated(r, depth+1)))
		}
		return list
	case depth < 4 && k < 4:
		m := map[string]any{}
		for range r.IntN(4) {
			m[fmt.Sprint("k", r.IntN(9))] = strict(generated(r, depth+1))
		}
		return m
	case k < 6:
		return r.NormFloat64() * math.Pow(10, float64(r.IntN(600)-300))
	case k < 7:
		return r.Int64() - r.Int64()
	default:
		return scalars[r.IntN(len(scalars))]
	}
}

// strict leaves out what encoding/json writes nowhere but at the top.
func strict(v any) any {
	if _, err := json.Marshal(v); err != nil {
		return "not strict"
	}
	return v
}

// session is one that this test has for itself.
func (b *bench) session() string {
	session := b.prefix + "-session"
	b.t.Cleanup(func() {
		ctx := context.WithoutCancel(b.t.Context())
		for it := b.redis.Scan(ctx, 0, "graflow:channel:"+session+":*", 1000).Iterator(); it.Next(ctx); {
			b.redis.Del(ctx, it.Val())
		}
	})
	return session
}

// do pushes a task with params, waits for its end and fails the test if that was
// not a success.
func (b *bench) do(session, taskID string, params map[string]any) {
	b.t.Helper()
	group := fmt.Sprintf("%s-%d", taskID, rand.Uint64())
	ctx := b.t.Context()
	if err := b.redis.Set(ctx, b.key("barrier", group, "expected"), 1, 0).Err(); err != nil {
		b.t.Fatal(err)
	}
	b.push(taskID, session, map[string]any{"params": params, "group_id": group})
	var text string
	wait.Until(b.t, "the completion of "+taskID, func() bool {
		var err error
		text, err = b.redis.HGet(ctx, b.key("completions", group), taskID).Result()
		return !errors.Is(err, redis.Nil)
	})
	if !strings.Contains(text, `"success":true`) {
		b.t.Errorf("%s: %.1000s", taskID, text)
	}
}

// pythonWorker starts a sidecar around the plain Python worker of testdata.
func (b *bench) pythonWorker() *worker {
	b.t.Helper()
	script, err := filepath.Abs(filepath.Join("testdata", "channel_worker.py"))
	if err != nil {
		b.t.Fatal(err)
	}
	return b.sidecar(setup{
		args: []string{"--", graflow.Python(b.t), script},
		env:  []string{"PYTHONPATH=" + build.Root("examples", "python-worker")},
	})
}

// What Graflow's channel writes and a worker copies is, for Graflow's channel,
// what it was.
func TestChannelValuesFromPython(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it runs Graflow tasks only")
	const n = 400
	seed := time.Now().UnixNano() % 1_000_000
	t.Logf("seed %d", seed)
	for name, start := range map[string]func(b *bench) *worker{
		"go":     func(b *bench) *worker { return b.role("channel") },
		"python": (*bench).pythonWorker,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			start(b)
			session := b.session()
			var wrote struct {
				N    int
				Keys bool
			}
			b.report(&wrote, "channel_peer.py", "write", session, strconv.Itoa(n), fmt.Sprint(seed))
			if wrote.N != n || !wrote.Keys {
				t.Fatalf("wrote %+v", wrote)
			}
			b.do(session, "copy", map[string]any{"count": n, "prefix": name})
			var compared struct{ Wrong []string }
			b.report(&compared, "channel_peer.py", "compare", session, strconv.Itoa(n), name)
			for _, line := range compared.Wrong {
				t.Error(line)
			}
			if name == "python" { // whose functions' parameters are inputs
				b.push("inputs", session, nil)
				equal(t, "inputs", b.result(session, "inputs"), `["'copied'","None","1.0","nan","'default'"]`)
			}
		})
	}
}

// What a worker writes is the same value for Graflow's channel, and still when
// that has written it again.
func TestChannelValuesFromGo(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it runs Graflow tasks only")
	const n = 400
	b := newBench(t)
	b.role("channel")
	session := b.session()
	seed := uint64(time.Now().UnixNano() % 1_000_000)
	t.Logf("seed %d", seed)
	b.do(session, "generate", map[string]any{"count": n, "seed": seed})
	var got struct {
		Texts           []string
		Added           string
		Exists, Deleted bool
	}
	b.report(&got, "channel_peer.py", "read", session, strconv.Itoa(n))
	equal(t, "41 + 0.5", got.Added, "41.5")
	equal(t, "exists, deleted", []bool{got.Exists, got.Deleted}, []bool{true, false})
	equal(t, "list", b.list("graflow:channel:"+session+":list"), []string{`"from Go"`, `"from Python"`})
	if len(got.Texts) != n {
		t.Fatalf("%d texts", len(got.Texts))
	}
	for i, text := range got.Texts {
		ours := b.redis.Get(t.Context(), fmt.Sprintf("graflow:channel:%s:gen_%d", session, i)).Val()
		back := b.redis.Get(t.Context(), fmt.Sprintf("graflow:channel:%s:back_%d", session, i)).Val()
		if !sameJSON(ours, text) || !sameJSON(ours, back) {
			t.Errorf("gen_%d: wrote %.200s, Python has %.200s and writes %.200s", i, ours, text, back)
		}
	}
}

// sameJSON compares texts by what they mean: an integer is no float, every
// integer counts to its last digit, and floats are those of 64 bits.
func sameJSON(a, b string) bool {
	x, err1 := parse(a)
	y, err2 := parse(b)
	return err1 == nil && err2 == nil && fmt.Sprintf("%#v", x) == fmt.Sprintf("%#v", y)
}

func parse(text string) (any, error) {
	switch text {
	case "NaN", "-Infinity":
		return text, nil
	}
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	return normal(v), nil
}

func normal(v any) any {
	switch v := v.(type) {
	case json.Number:
		if !strings.ContainsAny(v.String(), ".eE") {
			n, _ := new(big.Int).SetString(v.String(), 10)
			return n.String()
		}
		f, _ := v.Float64()
		return f
	case []any:
		for i := range v {
			v[i] = normal(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = normal(v[k])
		}
	}
	return v
}

// A lock is had by one at a time, in whichever language: Graflow's own channel,
// a worker in Go and one in Python count the same key up.
func TestChannelLocksExcludeEachOther(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it runs Graflow tasks only")
	const times = 12
	b, session := newBench(t), ""
	other := *b // the same Redis, with a queue of its own
	other.prefix += "-python"
	session = b.session()
	b.role("channel")
	other.pythonWorker()
	params := map[string]any{"key": "n", "times": times}
	var wg sync.WaitGroup
	failed := make(chan error, 1)
	wg.Go(func() {
		if _, err := b.tryProduce("channel_peer.py", "lock", session, "n", strconv.Itoa(times)); err != nil {
			failed <- err
		}
	})
	b.push("count", session, map[string]any{"params": params})
	other.do(session, "count", params)
	wait.Until(b.t, "the worker in Go", func() bool {
		return b.redis.Exists(t.Context(), "graflow:channel:"+session+":count.__result__").Val() == 1
	})
	wg.Wait()
	select {
	case err := <-failed:
		t.Error(err)
	default:
	}
	equal(t, "count", b.redis.Get(t.Context(), "graflow:channel:"+session+":n").Val(), strconv.Itoa(3*times))
	equal(t, "locks left", b.redis.Exists(t.Context(), "graflow:channel:"+session+":lock:n").Val(), int64(0))
}

// A lock ends with its task, and what a worker enqueues runs in its session.
func TestChannelEndsAndEnqueue(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it runs Graflow tasks only")
	b := newBench(t)
	b.role("channel")
	session := b.session()
	b.do(session, "hold", map[string]any{"key": "k"})
	wait.Until(b.t, "the end of the lock", func() bool {
		return b.redis.Exists(t.Context(), "graflow:channel:"+session+":lock:k").Val() == 0
	})
	b.push("next", session, nil)
	var last []any
	if err := json.Unmarshal([]byte(b.result(session, "last")), &last); err != nil {
		t.Fatal(err)
	}
	equal(t, "the result of the task before", last[:2], []any{true, "next"})
	var record struct {
		SessionID string  `json:"session_id"`
		TraceID   string  `json:"trace_id"`
		GraphHash string  `json:"graph_hash"`
		CreatedAt float64 `json:"created_at"`
	}
	if err := json.Unmarshal([]byte(last[2].(string)), &record); err != nil {
		t.Fatal(err)
	}
	equal(t, "ids", []string{record.SessionID, record.TraceID, record.GraphHash}, []string{session, session, "none"})
	if now := float64(time.Now().Unix()); math.Abs(record.CreatedAt-now) > 100 {
		t.Errorf("created at %f, now %f", record.CreatedAt, now)
	}
}
