package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	prefix     = "bench"
	recordSize = 300
)

// record is one of Graflow's shape, padded to size bytes. taskID empty gives
// each a name of its own.
func record(template map[string]string, n int, group string, size int) string {
	id, hash, session := fmt.Sprint("task_", n), strings.Repeat("0", 64), "8a2f4f0e3c"
	if template != nil {
		id, hash, session = template["task_id"], template["graph_hash"], template["session_id"]
	}
	text := fmt.Sprintf(`{"task_id": %q, "session_id": %q, "graph_hash": %q, "trace_id": "%032d", "created_at": %d.%06d, "group_id": %q, "parent_span_id": null`,
		id, session, hash, n, 1732335600+n/1000000, n%1000000, group)
	if pad := size - len(text) - len(`, "pad": ""}`); pad > 0 && template == nil {
		text += `, "pad": "` + strings.Repeat("x", pad) + `"`
	}
	return text + "}"
}

// push appends n records of a group that waits for all of them.
func (b *bench) push(ctx context.Context, template map[string]string, group string, n, size int) error {
	c := b.server.client
	if err := c.Set(ctx, prefix+":barrier:"+group+":expected", n, 0).Err(); err != nil {
		return err
	}
	handful := max(1, min(2000, (4<<20)/size))
	values := make([]any, 0, handful)
	for i := range n {
		values = append(values, record(template, i, group, size))
		if len(values) == handful || i == n-1 {
			if err := c.RPush(ctx, prefix+":queue", values...).Err(); err != nil {
				return err
			}
			values = values[:0]
		}
	}
	return nil
}

// lap is how long a subject took for a part of a group's tasks.
type lap struct {
	perSecond  float64
	cpuATask   time.Duration // of the subject and its descendants
	ownATask   time.Duration // of the subject alone
	redisATask time.Duration // of Redis
}

// throughput runs a subject against a full queue. The clock runs from a fifth of
// the tasks, when all workers are up and warm, to the last task: start and end
// would otherwise weigh more the faster the subject is.
func (b *bench) throughput(ctx context.Context, s *subject, group string, n int) (lap, error) {
	sub := b.server.client.Subscribe(ctx, prefix+":barrier_done:"+group)
	defer sub.Close()
	if _, err := sub.Receive(ctx); err != nil {
		return lap{}, err
	}
	counter := prefix + ":barrier:" + group
	from, first, cpu, own, redisCPU := time.Time{}, 0, time.Duration(0), time.Duration(0), time.Duration(0)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	complete := sub.Channel()
	for {
		select {
		case <-ctx.Done():
			done, _ := b.server.client.Get(context.Background(), counter).Result()
			return lap{}, fmt.Errorf("%w after %s of %d tasks", ctx.Err(), done, n)
		case <-s.done:
			return lap{}, errEnded
		case <-complete:
			took := time.Since(from)
			if first == 0 {
				return lap{}, fmt.Errorf("%d tasks are too few to measure", n)
			}
			rest := time.Duration(n - first)
			return lap{float64(n-first) / took.Seconds(), (s.used().cpu - cpu) / rest, (s.own().cpu - own) / rest, (b.server.cpu() - redisCPU) / rest}, nil
		case <-tick.C:
			if first > 0 {
				continue
			}
			done, err := b.server.client.Get(ctx, counter).Int()
			if err == nil && done >= n/5 {
				from, first, cpu, own, redisCPU = time.Now(), done, s.used().cpu, s.own().cpu, b.server.cpu()
			}
		}
	}
}

// latencies pushes tasks one by one, each in a group of its own, and returns how
// long after its push each was published as complete, in order of size.
func (b *bench) latencies(ctx context.Context, s *subject, n int, pause time.Duration) ([]time.Duration, error) {
	sub := b.server.client.PSubscribe(ctx, prefix+":barrier_done:one-*")
	defer sub.Close()
	if _, err := sub.Receive(ctx); err != nil {
		return nil, err
	}
	complete := sub.Channel(redis.WithChannelSize(1000))
	var list []time.Duration
	const warm = 20
	for i := range n + warm {
		if err := sleep(ctx, pause); err != nil {
			return nil, err
		}
		group := fmt.Sprint("one-", latencyGroup.Add(1))
		if err := b.server.client.Set(ctx, prefix+":barrier:"+group+":expected", 1, time.Minute).Err(); err != nil {
			return nil, err
		}
		text := record(nil, i, group, recordSize)
		began := time.Now()
		if err := b.server.client.RPush(ctx, prefix+":queue", text).Err(); err != nil {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-s.done:
			return nil, errEnded
		case <-complete:
		}
		if i >= warm {
			list = append(list, time.Since(began))
		}
	}
	slices.Sort(list)
	return list, nil
}

var latencyGroup atomic.Int64

func quantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// awaitCounter waits until n tasks of a group are complete.
func (b *bench) awaitCounter(ctx context.Context, s *subject, group string, n int) error {
	for {
		text, err := b.server.client.Get(ctx, prefix+":barrier:"+group).Result()
		if done, _ := strconv.Atoi(text); err == nil && done >= n {
			return nil
		}
		select {
		case <-s.done:
			return errEnded
		default:
		}
		if err := sleep(ctx, 2*time.Millisecond); err != nil {
			return err
		}
	}
}
