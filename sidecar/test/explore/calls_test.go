package explore

import (
	"context"
	"encoding"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/graflow/graflow-sidecar/sidecar/internal/redis"
	"github.com/graflow/graflow-sidecar/sidecar/test/kit/redismodel"
)

// recorder records the scripts that a Store calls.
type recorder struct{ sent [][]string }

func (r *recorder) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (r *recorder) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}

func (r *recorder) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		if cmd.Name() == "evalsha" {
			var words []string
			for _, a := range cmd.Args() {
				switch v := a.(type) {
				case []byte:
					words = append(words, string(v))
				case *string:
					words = append(words, *v)
				case encoding.BinaryMarshaler:
					b, _ := v.MarshalBinary()
					words = append(words, string(b))
				default:
					words = append(words, fmt.Sprint(v))
				}
			}
			r.sent = append(r.sent, words)
		}
		return next(ctx, cmd)
	}
}

// TestSameCallsAsStore compares the calls of the exploration with those of a Store: the
// scripts and their arguments.
func TestSameCallsAsStore(t *testing.T) {
	scope := Scope{Sidecars: 1, Records: 3, Batch: 2, Attempts: 2}
	e, err := newEngine(scope, sources(t))
	if err != nil {
		t.Fatal(err)
	}
	e.calls.lease = 6000 // that of a Store
	e.start()
	server := redismodel.NewServer(e.db)
	var conns sync.WaitGroup
	t.Cleanup(conns.Wait)
	t.Cleanup(server.CloseConns)
	client := goredis.NewClient(&goredis.Options{
		MaxRetries: -1, MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			near, far := net.Pipe()
			conns.Go(func() { server.ServeConn(far) })
			return near, nil
		},
	})
	sent := &recorder{}
	client.AddHook(sent)
	store, err := redis.New(client, redis.Options{Prefix: prefix})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	ctx := t.Context()
	step := func(name string, want [][]string, call func() error) {
		t.Helper()
		sent.sent = nil
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if !slices.EqualFunc(sent.sent, want, slices.Equal[[]string]) {
			t.Errorf("%s: a Store sends\n%s\nthe exploration\n%s", name, lines(sent.sent), lines(want))
		}
	}
	c := &e.calls
	at := time.Unix(0, 0)
	report := func(seq int64, n uint8, dead *redis.DeadLetter) []redis.Report {
		return []redis.Report{{
			Delivery: id("a1", seq), TaskID: task(n), GroupID: group, CreatedAt: "1", Success: dead == nil, Timestamp: at,
			RecordSHA: redis.RecordSHA([]byte(record(n))), RecordSize: len(record(n)), Dead: dead,
		}}
	}
	step("register", [][]string{c.register("a1", []string{"a0", "a1"})}, func() error { return store.Register(ctx, "a1", "a0", "a1") })
	step("register", [][]string{c.register("b1", []string{"b1"})}, func() error { return store.Register(ctx, "b1", "b1") })
	step("renew", [][]string{c.renew("a1")}, func() error { return store.Renew(ctx, "a1") })
	step("claim", [][]string{c.claim("a1", 1, 2, 0)}, func() error { _, err := store.Claim(ctx, "a1", "n1", 2); return err })
	step("claim, repeated", [][]string{c.claim("a1", 1, 2, 2)}, func() error { _, err := store.Claim(ctx, "a1", "n1", 2); return err })
	step("report", [][]string{c.report("a1", 1, 0, completion(0, true, ""), nil)}, func() error { _, err := store.Report(ctx, "a1", report(1, 0, nil)); return err })
	step("release", [][]string{c.release("a1", 2, 1, "lost", "child")}, func() error {
		_, err := store.Release(ctx, "a1", []redis.Release{{Delivery: id("a1", 2), Seq: 2, Lost: true, Shared: true, MaxAttempts: 2, Record: []byte(record(1))}})
		return err
	})
	step("claim", [][]string{c.claim("a1", 2, 2, 2)}, func() error { _, err := store.Claim(ctx, "a1", "n2", 2); return err })
	step("release", [][]string{c.release("a1", 3, 1, "", "")}, func() error {
		_, err := store.Release(ctx, "a1", []redis.Release{{Delivery: id("a1", 3), Seq: 3, MaxAttempts: 2, Record: []byte(record(1))}})
		return err
	})
	step("delay", [][]string{c.delay("a1", 4, 2, 1000)}, func() error {
		_, err := store.Delay(ctx, "a1", []redis.Delay{{Delivery: id("a1", 4), After: time.Second, Record: []byte(record(2)), Count: true}})
		return err
	})
	step("claim", [][]string{c.claim("a1", 3, 2, 4)}, func() error { _, err := store.Claim(ctx, "a1", "n3", 2); return err })
	dead := &letter{reason: "failed", losses: 1, time: "2026-01-01T00:00:00Z", at: "1767225600000"}
	step("report", [][]string{c.report("a1", 5, 1, completion(1, false, ""), dead)}, func() error {
		_, err := store.Report(ctx, "a1", report(5, 1, &redis.DeadLetter{Reason: "failed", Attempts: 1, At: time.UnixMilli(1767225600000)}))
		return err
	})
	step("requeue", [][]string{c.requeue(id("a1", 5))}, func() error { _, err := store.Requeue(ctx, id("a1", 5), false); return err })
	step("drop", [][]string{c.drop(id("a1", 5))}, func() error { _, err := store.Drop(ctx, id("a1", 5)); return err })
	step("reconcile", [][]string{c.reconcile("a1", 5, []string{id("a1", 5)})}, func() error { _, err := store.Reconcile(ctx, "a1", 5, []string{id("a1", 5)}); return err })
	tick := c.tick("a1", "", "0")
	tick[len(tick)-4] = "60" // searchRest
	step("tick", [][]string{tick}, func() error { _, err := store.Tick(ctx, "a1", nil, ""); return err })
	server.Do("DEL", alive("b1"))
	step("reap", [][]string{c.retire("a1", "b1", "dead"), c.reap("a1", "b1", 2, 0)}, func() error { _, err := store.Reap(ctx, "a1", "b1", 2); return err })
	step("leave", [][]string{c.retire("a1", "a1", "clean"), c.reap("a1", "a1", 1, 0)}, func() error { return store.Leave(ctx, "a1") })
}

func lines(calls [][]string) string {
	var b strings.Builder
	for _, c := range calls {
		fmt.Fprintf(&b, "%q\n", c)
	}
	return b.String()
}
