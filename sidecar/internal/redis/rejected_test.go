package redis

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redistest"
)

// strict is a Redis that takes no argument of more than a megabyte.
func strict(t *testing.T) *env {
	t.Helper()
	server := redistest.Start(t, "--proto-max-bulk-len", "1mb")
	client := goredis.NewClient(&goredis.Options{Addr: server.Addr, Dialer: dialer(time.Minute, nil, nil), MaxRetries: -1})
	t.Cleanup(func() { client.Close() })
	return newEnv(t, client, Options{StoreValues: true})
}

// TestWhatRedisRejects is told as such, whether Redis answers while the command is
// being written or after that, and names the sizes.
func TestWhatRedisRejects(t *testing.T) {
	e := strict(t)
	run := e.run("w")
	c := e.claimOne(run, "r")
	for _, size := range []int{1<<20 + 1, 2_100_000, 60_000_000} {
		big := bytes.Repeat([]byte{'x'}, size)
		ch, err := e.Channel("s", c.Delivery)
		if err != nil {
			t.Fatal(err)
		}
		_, reported := e.Report(e.ctx, run, []Report{{Delivery: c.Delivery, TaskID: "t", SessionID: "s", Success: true, Value: big}})
		_, _, pushed := e.Push(e.ctx, big)
		for what, err := range map[string]error{
			"report":  reported,
			"set":     ch.Set(e.ctx, Turn{1, 1}, "k", big, 0),
			"append":  func() error { _, err := ch.Append(e.ctx, Turn{1, 2}, "l", big, 0); return err }(),
			"enqueue": e.Enqueue(e.ctx, Turn{1, 3}, c.Delivery, big),
			"push":    pushed,
		} {
			rejected, is := errors.AsType[*RejectedError](err)
			if !is || Classify(err) != ClassRejected || rejected.Size != int64(size) || rejected.Limit != 1<<20 {
				t.Errorf("%s of %d bytes: %v", what, size, err)
				continue
			}
			if size == 2_100_000 {
				same(t, what, rejected.Explain("result"), "result of 2.1 MB is larger than Redis accepts (1 MB)")
			}
		}
	}
	same(t, "verdict", e.report(run, Report{Delivery: c.Delivery, TaskID: "t"}), []Verdict{CompletedNoGroup})
}

// TestPushBoundsItsCalls: records are added in their order, and what comes before one
// that Redis rejects is added.
func TestPushBoundsItsCalls(t *testing.T) {
	e := strict(t)
	e.o.MaxClaimBytes = 1000
	var records [][]byte
	for i := range 600 {
		records = append(records, fmt.Appendf(nil, "%03d%s", i, strings.Repeat("x", i)))
	}
	added, depth, err := e.Push(e.ctx, records...)
	if added != 600 || depth != 600 || err != nil {
		t.Fatal(added, depth, err)
	}
	queue := e.c.LRange(e.ctx, e.keys.queue(), 0, -1).Val()
	if !slices.IsSorted(queue) || len(queue) != 600 {
		t.Error("the order is another one")
	}
	e.o.MaxClaimBytes = 4 << 20
	added, _, err = e.Push(e.ctx, []byte("a"), make([]byte, 2<<20), []byte("b"))
	if _, is := errors.AsType[*RejectedError](err); added != 1 || !is {
		t.Error(added, err)
	}
	same(t, "queue", e.c.LLen(e.ctx, e.keys.queue()).Val(), int64(601))
}

// TestADeadLetterOfALargeRecord carries no record: it is in Redis already.
func TestADeadLetterOfALargeRecord(t *testing.T) {
	e := strict(t)
	run := e.run("w")
	record := strings.Repeat("x", 900_000)
	c := e.claimOne(run, record)
	if err := e.c.ConfigSet(e.ctx, "proto-max-bulk-len", "1mb").Err(); err != nil {
		t.Fatal(err)
	}
	// As records become that are longer than Redis takes from a client.
	if err := e.c.Eval(e.ctx, "return redis.call('HSET', KEYS[1], ARGV[1], string.rep('y', 3000000))", []string{e.keys.inflight(run)}, c.Delivery).Err(); err != nil {
		t.Fatal(err)
	}
	same(t, "verdict", e.report(run, Report{Delivery: c.Delivery, Dead: &DeadLetter{Reason: "invalid"}}), []Verdict{Dead})
	letter, ok, err := e.DeadLetter(e.ctx, c.Delivery)
	if !ok || err != nil || len(letter.Raw) != 3_000_000 {
		t.Errorf("%d bytes, %v", len(letter.Raw), err)
	}
	if got, err := e.Requeue(e.ctx, c.Delivery, false); got != "requeued" || err != nil {
		t.Error(got, err)
	}
}

// TestValuesOfOneBatchKeepTheirOrder: of two results for one key the later one stays. Only
// every seventh report has a result: a table of all of them is a list in Lua, which has an
// order of its own.
func TestValuesOfOneBatchKeepTheirOrder(t *testing.T) {
	both(t, Options{StoreValues: true}, func(t *testing.T, e *env) {
		run := e.run("w")
		var batch []Report
		for i := range 200 {
			c := e.claimOne(run, fmt.Sprint("r", i))
			r := Report{Delivery: c.Delivery, TaskID: fmt.Sprint("t", i%98), SessionID: e.o.Prefix}
			if i%7 == 0 {
				r.Value = fmt.Append(nil, i)
			}
			batch = append(batch, r)
		}
		e.report(run, batch...)
		for i := 7; i < 98; i += 7 {
			key := e.keys.result(e.o.Prefix, fmt.Sprint("t", i))
			same(t, "value", e.get(key), fmt.Sprint(i+98))
			e.c.Del(e.ctx, key)
		}
	})
}
