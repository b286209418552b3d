//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/graflow"
)

// latencyBound is what a task pushed to an idle system may take until it
// starts, at the median. Graflow's worker polls every 100 ms; a few
// milliseconds are expected here, and the rest is for a busy test machine.
const latencyBound = 20 * time.Millisecond

// role starts a sidecar around this test binary as a plain worker.
func (b *bench) role(name string, env ...string) *worker {
	b.t.Helper()
	self, err := os.Executable()
	if err != nil {
		b.t.Fatal(err)
	}
	return b.sidecar(setup{args: []string{"--", self, "worker=" + name}, env: env})
}

// Not parallel: it measures time.
func TestIdleTaskStartsAtOnce(t *testing.T) {
	sidecarOnly(t, "it polls every 100 ms")
	b := newBench(t)
	b.role("clock")
	var took []time.Duration
	for i := range 55 {
		session, id := b.prefix, "task_"+strconv.Itoa(i)
		pushed := time.Now()
		b.push(id, session, nil)
		started, err := strconv.ParseInt(b.result(session, id), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		took = append(took, time.Unix(0, started).Sub(pushed))
	}
	took = took[5:] // the workers were still starting
	slices.Sort(took)
	median := took[len(took)/2]
	t.Logf("from push to start: median %v, slowest %v", median, took[len(took)-1])
	if median > latencyBound {
		t.Errorf("from push to start: median %v, want below %v", median, latencyBound)
	}
}

// Results reach Redis as the worker gave them, whatever they hold.
func TestPlainWorkerPayloads(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it runs Graflow tasks only")
	payloads := map[string]string{
		"number": `1.5`, "list": `[1, "two", null]`, "object": `{"a": {"b": []}}`,
		"text":        `"größer 😀 \u2028 \u0000 <b> \u00e9 \ud83d\ude00"`,
		"big_integer": `1180591620717411303424`, "beyond_double": `{"n": 9007199254740993}`,
		"big": `"` + strings.Repeat("6 MB of text, ", 6<<20/14) + `"`,
	}
	for language, start := range map[string]func(*bench){
		"go": func(b *bench) { b.role("payload") },
		"python": func(b *bench) {
			script := build.Root("sidecar", "test", "e2e", "testdata", "payload_worker.py")
			b.sidecar(setup{
				args: []string{"--", graflow.Python(t), script},
				env:  []string{"PYTHONPATH=" + build.Root("examples", "python-worker")},
			})
		},
	} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			start(b)
			for id, payload := range payloads {
				b.push(id, b.prefix, map[string]any{"payload": json.RawMessage(payload)})
			}
			for id, payload := range payloads {
				got, want := numbers(t, b.result(b.prefix, id)), numbers(t, payload)
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s: got %.200v, want %.200v", id, got, want)
				}
			}
		})
	}
}

// numbers decodes JSON with its numbers digit for digit.
func numbers(t *testing.T, text string) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Errorf("%v: %.200s", err, text)
	}
	return v
}

// A group of records that a Go producer pushed, with the barrier counted as
// Graflow's coordinator expects it.
func TestPlainWorkerGroup(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it runs Graflow tasks only")
	b := newBench(t)
	b.role("payload")
	const n = 50
	ctx := t.Context()
	b.expect("g", n)
	done := b.redis.Subscribe(ctx, b.key("barrier_done", "g"))
	defer done.Close()
	if _, err := done.Receive(ctx); err != nil { // the subscription itself
		t.Fatal(err)
	}
	for i := range n {
		b.push(fmt.Sprintf("task_%d", i), b.prefix, map[string]any{"group_id": "g", "payload": i})
	}
	message, err := done.ReceiveTimeout(ctx, 20*time.Second)
	if err != nil {
		t.Fatalf("the barrier's message: %v", err)
	}
	equal(t, "the barrier's message", fmt.Sprint(message), fmt.Sprintf("Message<%s: complete>", b.key("barrier_done", "g")))
	equal(t, "counter", b.redis.Get(ctx, b.key("barrier", "g")).Val(), strconv.Itoa(n))
	completions, err := b.redis.HGetAll(ctx, b.key("completions", "g")).Result()
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "completions", len(completions), n)
	for id, text := range completions {
		var c completion
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			t.Fatal(err)
		}
		if age := time.Since(time.UnixMicro(int64(c.Timestamp * 1e6))); c.TaskID != id || !c.Success || !strings.Contains(text, `"error_message":null`) || age < 0 || age > time.Minute {
			t.Errorf("completion of %s: %s", id, text)
		}
	}
}

// Records are taken from the left unless told otherwise, one after another
// where there is one slot.
func TestQueueSide(t *testing.T) {
	t.Parallel()
	sidecarOnly(t, "it takes from the left only")
	ids := []string{"a", "b", "c", "d", "e"}
	for side, want := range map[string]string{"left": "abcde", "right": "edcba"} {
		t.Run(side, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			for _, id := range ids {
				b.push(id, b.prefix, nil)
			}
			b.role("clock", "MAX_CONCURRENT_TASKS=1", "SIDECAR_QUEUE_SIDE="+side)
			started := map[string]string{}
			for _, id := range ids {
				started[id] = b.result(b.prefix, id) // of one length
			}
			order := slices.Clone(ids)
			slices.SortFunc(order, func(x, y string) int { return strings.Compare(started[x], started[y]) })
			equal(t, "order", strings.Join(order, ""), want)
		})
	}
}
