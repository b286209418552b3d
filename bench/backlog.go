package main

import (
	"context"
	"fmt"
	"time"
)

// refill makes records inside Redis: a million of them from here would take
// longer than to run them.
func (b *bench) refill(ctx context.Context, group string, from, n int) error {
	// The expected number comes first: a report does not count a task whose barrier is not open.
	if err := b.server.client.Set(ctx, prefix+":barrier:"+group+":expected", from+n, 0).Err(); err != nil {
		return err
	}
	return b.fill(ctx, prefix+":queue", group, from, n)
}

// fill is refill of any list.
func (b *bench) fill(ctx context.Context, list, group string, from, n int) error {
	const script = `
for i = tonumber(ARGV[3]), tonumber(ARGV[3]) + ARGV[2] - 1 do
  redis.call('RPUSH', KEYS[1], string.format(ARGV[1], i, 1732335600 + i))
end
return 1`
	template := fmt.Sprintf(`{"task_id": "task_%%d", "session_id": "s", "graph_hash": "%064d", "trace_id": "0", "created_at": %%d.5, "group_id": %q, "parent_span_id": null, "pad": "%0100d"}`, 0, group, 0)
	for done := 0; done < n; done += 10_000 {
		if err := b.server.client.Eval(ctx, script, []string{list}, template, min(10_000, n-done), from+done).Err(); err != nil {
			return err
		}
	}
	return nil
}

// depth is what was done while the queue had one length.
type depth struct {
	name   string
	length int
	tasks  int
	took   time.Duration
	cpuNs  int64 // of Redis
}

// How often and for how long each length has its turn.
const (
	backlogTurns = 8
	backlogTurn  = 120 * time.Millisecond
)

// backlogs is the rate at a queue that is kept at a length, for two lengths that
// take turns: the longer queue is renamed, and with that there or not, for the same
// sidecar and the same Redis. What the machine does meanwhile, and how much memory
// Redis holds, is alike for both then.
func (b *bench) backlogs(ctx context.Context) error {
	million := 1_000_000
	if b.quick {
		million = 10_000
	}
	both := []*depth{{name: shallowQueue, length: 1_000}, {name: deepQueue, length: million}}
	queue, away := prefix+":queue", "away:queue"
	pushed := 0
	for i, list := range []string{queue, away} {
		if err := b.fill(ctx, list, "load", pushed, both[i].length); err != nil {
			return err
		}
		pushed += both[i].length
	}
	// More than there will ever be.
	if err := b.server.client.Set(ctx, prefix+":barrier:load:expected", 100*million, 0).Err(); err != nil {
		return err
	}
	s, err := b.withGo(slots, slots)
	if err != nil {
		return err
	}
	defer s.stop()
	for turn := range 2 * (backlogTurns + 1) {
		done := depth{length: both[turn%2].length}
		dry := false
		if pushed, dry, err = b.keepAt(ctx, queue, &done, pushed); err != nil {
			return s.explain(err)
		}
		if turn >= 2 && !dry { // the first turn of each is to get warm
			d := both[turn%2]
			d.tasks, d.took, d.cpuNs = d.tasks+done.tasks, d.took+done.took, d.cpuNs+done.cpuNs
		}
		const swap = `
local here, there = redis.call('EXISTS', KEYS[1]) == 1, redis.call('EXISTS', KEYS[2]) == 1
if here then redis.call('RENAME', KEYS[1], KEYS[3]) end
if there then redis.call('RENAME', KEYS[2], KEYS[1]) end
if here then redis.call('RENAME', KEYS[3], KEYS[2]) end
return 1`
		if err := b.server.client.Eval(ctx, swap, []string{queue, away, "swapped:queue"}).Err(); err != nil {
			return err
		}
	}
	if both[0].tasks == 0 || both[1].tasks == 0 {
		return nil // the machine was too busy in every turn: this round says nothing
	}
	for _, d := range both {
		b.results.add(d.name, "tasks/s", float64(d.tasks)/d.took.Seconds())
		b.results.add(d.name, redisCPU, float64(d.cpuNs)/1e3/float64(d.tasks))
	}
	return nil
}

// keepAt runs one turn: it keeps the queue at its length and up to a thousand
// records more, by the same handfuls for every length, and stores in d what was
// done. It returns how many records have been pushed in all, and whether the queue
// became shorter than a claim or two: such a turn measured the bench and not the
// sidecar.
func (b *bench) keepAt(ctx context.Context, queue string, d *depth, pushed int) (in int, dry bool, err error) {
	const handful, more, least = 250, 1_000, 500
	counter := prefix + ":barrier:load"
	var began time.Time
	first, cpu := 0, int64(0)
	for began.IsZero() || time.Since(began) < backlogTurn {
		left, err := b.server.client.LLen(ctx, queue).Result()
		if err != nil {
			return pushed, dry, err
		}
		dry = dry || !began.IsZero() && left < least
		for missing := d.length + more - int(left); left < int64(d.length) && missing >= handful; missing -= handful {
			if err := b.fill(ctx, queue, "load", pushed, handful); err != nil {
				return pushed, dry, err
			}
			pushed += handful
		}
		if began.IsZero() {
			first, _ = b.server.client.Get(ctx, counter).Int() // absent before the first task
			began, cpu = time.Now(), processNanoseconds(b.server.cmd.Process.Pid)
		}
		if err := sleep(ctx, time.Millisecond); err != nil {
			return pushed, dry, err
		}
	}
	last, _ := b.server.client.Get(ctx, counter).Int()
	d.tasks, d.took = last-first, time.Since(began)
	d.cpuNs = processNanoseconds(b.server.cmd.Process.Pid) - cpu
	return pushed, dry, nil
}
