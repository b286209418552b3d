//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/build"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/proc"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/testlog"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// producerBound is the longest that a producer may take: Graflow waits 30 s
// for a barrier, and a test that gets there has failed already.
const producerBound = 50 * time.Second

// bench is what one test works with: a Redis and a key prefix of its own.
type bench struct {
	t      *testing.T
	server redistest.Server
	redis  *redis.Client
	prefix string
}

// newBench is for tests that run beside others.
func newBench(t *testing.T) *bench {
	t.Helper()
	server := redistest.New(t)
	return &bench{t: t, server: *server, redis: server.Client(), prefix: redistest.Prefix(t)}
}

func (b *bench) key(parts ...string) string {
	return b.prefix + ":" + strings.Join(parts, ":")
}

// env is the environment of producers and workers: ours, without anything
// that would set them up by accident, and then where Redis is.
func (b *bench) env(extra ...string) []string {
	env := append(proc.Env(),
		"REDIS_HOST="+b.server.Host,
		"REDIS_PORT="+strconv.Itoa(b.server.Port),
		"REDIS_KEY_PREFIX="+b.prefix,
	)
	return append(env, extra...)
}

// produce runs a producer script to its end and returns what it printed.
func (b *bench) produce(script string, args ...string) []byte {
	b.t.Helper()
	out, err := b.tryProduce(script, args...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// tryProduce is produce for goroutines, which must not end the test.
func (b *bench) tryProduce(script string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(b.t.Context(), producerBound)
	defer cancel()
	cmd := exec.CommandContext(ctx, producerPython(b.t), append([]string{script}, args...)...)
	cmd.Dir = build.Root("sidecar", "test", "e2e", "testdata")
	cmd.Env = b.env()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := proc.Start(cmd); err != nil {
		return nil, err
	}
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("producer %s: %w\nstdout: %s\nstderr: %s", script, err, testlog.Tail(out.String()), testlog.Tail(errs.String()))
	}
	return out.Bytes(), nil
}

// report runs a producer script and decodes its last line into v.
func (b *bench) report(v any, script string, args ...string) {
	b.t.Helper()
	out := bytes.TrimSpace(b.produce(script, args...))
	line := out[bytes.LastIndexByte(out, '\n')+1:]
	if err := json.Unmarshal(line, v); err != nil {
		b.t.Fatalf("the last line of %s: %v\n%s", script, err, testlog.Tail(string(out)))
	}
}

// push appends a record as a plain producer would and returns it.
func (b *bench) push(taskID, session string, more map[string]any) string {
	b.t.Helper()
	record := map[string]any{
		"task_id": taskID, "session_id": session, "graph_hash": "none", "trace_id": session,
		"created_at": float64(time.Now().UnixMicro()) / 1e6, "group_id": nil, "parent_span_id": nil,
	}
	maps.Copy(record, more)
	text, err := json.Marshal(record)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := b.redis.RPush(b.t.Context(), b.key("queue"), text).Err(); err != nil {
		b.t.Fatal(err)
	}
	return string(text)
}

// queue is what is on the queue, from the left.
func (b *bench) queue() []string {
	b.t.Helper()
	return b.list(b.key("queue"))
}

func (b *bench) list(key string) []string {
	b.t.Helper()
	list, err := b.redis.LRange(b.t.Context(), key, 0, -1).Result()
	if err != nil {
		b.t.Fatal(err)
	}
	return list
}

// result waits for a task's result and returns its JSON text.
func (b *bench) result(session, taskID string) string {
	b.t.Helper()
	key := "graflow:channel:" + session + ":" + taskID + ".__result__"
	var text string
	wait.Until(b.t, "the result "+key, func() bool {
		var err error
		text, err = b.redis.Get(b.t.Context(), key).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			b.t.Fatal(err)
		}
		return err == nil
	})
	return text
}
