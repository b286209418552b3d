package redis

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Each operation works on a queue with a name of its own, from both ends, and none on that
// of the prefix.
func TestQueueOfAnyName(t *testing.T) {
	for _, right := range []bool{false, true} {
		t.Run(fmt.Sprintf("right %t", right), func(t *testing.T) {
			for name, on := range map[string]func(*testing.T, Options) *env{
				"redis": func(t *testing.T, o Options) *env { return onRedis(t, o) }, "miniredis": onMini, "model": onModel,
			} {
				t.Run(name, func(t *testing.T) {
					queue := fmt.Sprintf("any name %d\n:queue", time.Now().UnixNano())
					e := on(t, Options{Queue: queue, QueueRight: right})
					t.Cleanup(func() { e.c.Del(e.ctx, queue) })
					foreign := e.o.Prefix + ":queue"
					e.c.RPush(e.ctx, foreign, "not ours")
					everything(t, e)
					same(t, "in the queue", e.c.LLen(e.ctx, queue).Val(), 5)
					same(t, "the list of the prefix", fmt.Sprint(e.c.LRange(e.ctx, foreign, 0, -1).Val()), "[not ours]")
					e.c.Del(e.ctx, queue)

					run := e.run("v")
					e.push("a", "b")
					got := e.claim(run, 1)[0]
					want := "a"
					if right {
						want = "b"
					}
					same(t, "claimed", string(got.Record), want)
					same(t, "verdict", e.report(run, Report{Delivery: got.Delivery, Dead: &DeadLetter{Reason: "r"}}), []Verdict{Dead})
					e.requeue(got.Delivery, false)
					same(t, "after a requeue", len(e.c.LRange(e.ctx, queue, 0, -1).Val()), 2)
					q, err := e.Overview(e.ctx)
					if err != nil || q.Depth != 2 {
						t.Errorf("overview %+v, %v", q, err)
					}
					same(t, "the list of the prefix", e.c.LLen(e.ctx, foreign).Val(), 1)
				})
			}
		})
	}
}

// While a sidecar of another queue is alive under the prefix, a registration is refused and
// changes nothing; afterwards the prefix has the new queue.
func TestOneQueueForAPrefix(t *testing.T) {
	for _, c := range []struct{ first, second string }{{"", "a"}, {"a", ""}, {"a", "b"}} {
		both(t, Options{Queue: c.first}, func(t *testing.T, e *env) {
			other := newEnv(t, e.c, Options{Prefix: e.o.Prefix, Queue: c.second})
			first := e.run("w")
			dead := e.run("d")
			e.c.Del(e.ctx, e.keys.alive(dead))
			before := e.keysUnder("*")
			err := other.Register(e.ctx, NewRunID("o"))
			var wrong *QueueError
			if !errors.As(err, &wrong) || wrong.Served != e.keys.queue() || wrong.Own != other.keys.queue() || ClassName(err) != "queue" || Classify(err) != ClassFatal ||
				!strings.Contains(err.Error(), "REDIS_KEY_PREFIX="+e.o.Prefix+" ") {
				t.Fatalf("%v (class %s)", err, ClassName(err))
			}
			same(t, "keys", e.keysUnder("*"), before)
			again := e.run("w2") // of the same queue
			for _, run := range []string{first, again} {
				if err := e.Leave(e.ctx, run); err != nil {
					t.Fatal(err)
				}
			}
			other.run("o")
			same(t, "the name of the queue", e.get(e.keys.own("queue")), other.keys.queue())
			if err := e.Register(e.ctx, NewRunID("w3")); !errors.As(err, &wrong) || wrong.Served != other.keys.queue() {
				t.Errorf("the first queue again: %v", err)
			}
		})
	}
}

// A prefix that always had its own queue has no key for its name: earlier versions need none.
func TestTheOwnQueueHasNoKey(t *testing.T) {
	both(t, Options{}, func(t *testing.T, e *env) {
		e.run("w")
		if slices.ContainsFunc(e.keysUnder("*"), func(k string) bool { return strings.HasSuffix(k, ":sidecar:queue") }) {
			t.Error("it has")
		}
	})
}
