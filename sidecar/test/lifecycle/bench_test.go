//go:build lifecycle

package lifecycle

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/wait"
)

// bench is what one test works with: a Redis, a key prefix and a folder.
type bench struct {
	t      *testing.T
	rdb    *redis.Client
	addr   string // of Redis, or of what stands before it
	prefix string
	dir    string // of gates; not the sidecar's
	binary func() (string, error)
}

// newBench is on the Redis that all tests share.
func newBench(t *testing.T) *bench {
	t.Helper()
	server := redistest.New(t)
	return &bench{t: t, rdb: server.Client(), addr: server.Addr, prefix: redistest.Prefix(t), dir: t.TempDir(), binary: sidecarBinary}
}

// ownBench is on a Redis of its own, that may be stopped.
func ownBench(t *testing.T, args ...string) (*bench, *redistest.Instance) {
	t.Helper()
	server := redistest.Start(t, args...)
	return &bench{t: t, rdb: newClient(t, server.Addr), addr: server.Addr, prefix: "life", dir: t.TempDir(), binary: sidecarBinary}, server
}

// newClient is one that does not wait long: Redis is away in these tests.
func newClient(t *testing.T, addr string) *redis.Client {
	c := redis.NewClient(&redis.Options{
		Addr: addr, DialTimeout: time.Second, DialerRetries: 1, ReadTimeout: 2 * time.Second, ContextTimeoutEnabled: true, MaxRetries: 3,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (b *bench) key(name string) string { return b.prefix + ":" + name }

// gate is a path for a job that waits.
func (b *bench) gate(name string) string { return filepath.Join(b.dir, name) }

func (b *bench) open(gate string) {
	b.t.Helper()
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		b.t.Fatal(err)
	}
}

// begun waits until the job at a gate runs.
func (b *bench) begun(gate string) {
	b.t.Helper()
	wait.Until(b.t, "a task to start", func() bool { return exists(gate + ".started") })
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// push appends jobs to the queue, all at once.
func (b *bench) push(jobs ...job) {
	b.t.Helper()
	records := make([]any, len(jobs))
	for i, j := range jobs {
		j.SessionID, j.CreatedAt = b.prefix, float64(time.Now().UnixMicro())/1e6
		text, err := json.Marshal(j)
		if err != nil {
			b.t.Fatal(err)
		}
		records[i] = text
	}
	if err := b.rdb.RPush(context.Background(), b.key("queue"), records...).Err(); err != nil {
		b.t.Fatal(err)
	}
}

// queue reads the task ids in the queue, from its head.
func (b *bench) queue() (ids []string) {
	b.t.Helper()
	texts, err := b.rdb.LRange(context.Background(), b.key("queue"), 0, -1).Result()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, text := range texts {
		var j job
		if err := json.Unmarshal([]byte(text), &j); err != nil {
			b.t.Fatal(err)
		}
		ids = append(ids, j.TaskID)
	}
	return ids
}

// result is a task's result, "" while there is none.
func (b *bench) result(id string) string {
	text, _ := b.rdb.Get(context.Background(), "graflow:channel:"+b.prefix+":"+id+".__result__").Result()
	return text
}

// done reports whether every one of the tasks has its result.
func (b *bench) done(ids ...string) bool {
	for _, id := range ids {
		if b.result(id) == "" {
			return false
		}
	}
	return true
}

// leftovers are keys that a sidecar must not leave behind.
func (b *bench) leftovers() (left []string) {
	b.t.Helper()
	ctx := context.Background()
	keys, err := b.rdb.Keys(ctx, b.key("sidecar:*")).Result()
	if err != nil {
		b.t.Fatal(err)
	}
	for _, key := range keys {
		switch name := strings.TrimPrefix(key, b.key("sidecar:")); {
		case strings.HasPrefix(name, "alive:"), strings.HasPrefix(name, "inbox:"), strings.HasPrefix(name, "inflight:"), name == "runs":
			left = append(left, key)
		}
	}
	return left
}

// attempts is how many records have one on their account.
func (b *bench) attempts() int64 {
	return b.rdb.HLen(context.Background(), b.key("sidecar:attempts")).Val()
}

func names(prefix string, n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprintf("%s%d", prefix, i))
	}
	return ids
}

func jobs(ids ...string) (js []job) {
	for _, id := range ids {
		js = append(js, job{TaskID: id})
	}
	return js
}
